// Package aws drives the AWS endpoint with clients that nobody here wrote: boto3
// and the AWS CLI (Debian packages python3-boto3 and awscli) and AWS's SDK for
// JavaScript (npm ci in this directory). Tests whose client is missing are
// skipped, unless GGFLEET_REQUIRE_AWS_PEERS is 1: then they fail. The SDK for Go
// has its tests in the package above.
package aws
