// Package policy reads AWS IoT policy documents and decides requests by them.
//
// Parse compiles a document once: actions and resources become patterns of
// literal text, wildcards and variables. Decide then answers for one request:
// an explicit Deny wins, without any Allow the answer is no. The value of a
// variable is always plain text: a thing named a*b never becomes a wildcard,
// and a variable without a usable value keeps its statement from matching.
//
// The package knows neither MQTT nor HTTP nor where documents are stored. Who
// asks fills in [Vars] with what is true of its connection.
package policy
