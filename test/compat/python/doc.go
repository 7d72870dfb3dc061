// Package python drives ggfleet with AWS's newest clients for Python from PyPI: the
// IoT device SDK against gateway and device HTTPS, and boto3 against the AWS
// endpoint in the order in which AWS's development kit publishes components. It runs
// where GGFLEET_PYTHON names an interpreter that has requirements.txt installed, as
// make compat-python does, and is skipped everywhere else.
package python
