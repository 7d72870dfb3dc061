// Package recipe reads component recipes as authors write them and writes them
// as Greengrass runtimes must get them (nucleus-contract §8).
//
// Authors write JSON or YAML, spell keys in any case and leave things out. Lite
// reads keys case-sensitively, skips what it does not find and fails on null, so
// everything that is handed out passes through [Recipe.Normalized]. The package
// keeps what it does not know (configuration, unknown members) as it is written,
// numbers digit by digit.
//
// It knows nothing of stores, versions on offer or devices.
package recipe
