package component

import (
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// LambdaSource is what a component is to be made of in place of a recipe.
type LambdaSource struct {
	FunctionARN  string
	Name         string            // "": the function's name
	Version      string            // "": N.0.0 of the function's version N
	Dependencies map[string]string // component → range
}

// CheckLambda never returns nil: what is wrong with src is fault.Invalid, and one
// that AWS would take is fault.Unsupported, because there is no Lambda service
// here to take the function's code from.
func CheckLambda(src LambdaSource) error {
	const at = "lambdaFunction"
	p := strings.Split(src.FunctionARN, ":")
	switch {
	case len(p) < 7 || p[0] != "arn" || p[2] != "lambda" || p[5] != "function" || p[6] == "":
		return fault.Field(at+".lambdaArn", "%.256q is not the ARN of a Lambda function", src.FunctionARN)
	case len(p) != 8 || p[7] == "" || strings.Trim(p[7], "0123456789") != "":
		return fault.Field(at+".lambdaArn", "%.256q must end with the number of a function version; aliases such as $LATEST are refused", src.FunctionARN)
	}
	if src.Name != "" {
		if err := names.CheckComponent(src.Name); err != nil {
			return fault.Field(at+".componentName", "%s", fault.Message(err))
		}
	}
	if src.Version != "" {
		if _, err := semver.Parse(src.Version); err != nil {
			return fault.Field(at+".componentVersion", "%s", fault.Message(err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(src.Dependencies)) {
		member := at + ".componentDependencies[" + name + "]"
		if err := names.CheckComponent(name); err != nil {
			return fault.Field(member, "%s", fault.Message(err))
		}
		if _, err := semver.ParseRange(src.Dependencies[name]); err != nil {
			return fault.Field(member+".versionRequirement", "%s", fault.Message(err))
		}
	}
	return fault.New(fault.Unsupported, "lambdaFunction: this server has no Lambda service to take %s from; put the code into artifacts and send inlineRecipe instead", src.FunctionARN)
}
