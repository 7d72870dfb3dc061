// Package cloud holds the ports through which the fleet service reaches a
// cloud, and the words that both sides use. The self-hosted cloud implements
// them in this process; awscloud does by calling AWS. Both pass cloudtest.
//
// Where a change of the cloud and a change of the fleet's records belong
// together, the port takes a commit function: the cloud does its part and calls
// commit with the batch that must be written with it. Self-hosted, that batch
// holds the cloud's own records, so both sides change in one transaction; on AWS
// the calls come first and the batch is empty.
package cloud
