// Package pace bounds what each of many callers may do: how often ([Rate]) and how
// much at once ([Places]). What it remembers is bounded too, however many callers
// there are.
//
// It knows neither what a caller is nor what the acts are.
package pace
