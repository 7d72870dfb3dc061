package recipe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/recipe"
)

// Recipes that a lite runtime 2.6.0 accepted and ran, except for the names.
// Whatever we do to a recipe must leave these as they are.
func TestRecipesThatARealRuntimeAcceptedStayAsTheyAre(t *testing.T) {
	head := `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.X","ComponentVersion":"1.0.0","ComponentType":"aws.greengrass.generic",`
	for name, rest := range map[string]string{
		"artifact and dependency": `"ComponentPublisher":"P","ComponentDependencies":{"aws.greengrass.TokenExchangeService":{"VersionRequirement":">=0.0.0","DependencyType":"HARD"}},"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"install":"echo installing from {artifacts:path}","run":"sh {artifacts:path}/tool.sh 1"},"Artifacts":[{"Uri":"greengrass:9c1f5bd2/tool.sh","Digest":"djodvDL9690lZOXf8oz5oV+1qzS2MP9bNnpVErqIG0U=","Algorithm":"SHA-256","Unarchive":"NONE","Permission":{"Read":"ALL","Execute":"ALL"}}]}],"Lifecycle":{}}`,
		"configuration":           `"ComponentDescription":"Says hello","ComponentConfiguration":{"DefaultConfiguration":{"Message":"hello from the recipe"}},"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"while true; do echo \"{configuration:/Message} $AWS_IOT_THING_NAME\"; sleep 5; done"},"Artifacts":[]}],"Lifecycle":{}}`,
		"step as an object":       `"ComponentDependencies":{"com.example.Hello":{"VersionRequirement":">=1.0.0 <2.0.0","DependencyType":"SOFT"}},"Manifests":[{"Platform":{"os":"linux","runtime":"aws_nucleus_lite","architecture":"amd64"},"Lifecycle":{"run":{"Script":"echo one shot done","RequiresPrivilege":true}},"Artifacts":[]}],"Lifecycle":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := recipe.Parse([]byte(head + rest))
			require.NoError(t, err)
			assert.Equal(t, head+rest, string(r.Normalized()))
			_, ok := r.Match(map[string]string{"runtime": "aws_nucleus_lite", "os": "linux", "architecture": "amd64"})
			assert.True(t, ok)
		})
	}
}
