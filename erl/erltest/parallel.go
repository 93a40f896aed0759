package erltest

import (
	"flag"
	"runtime"
	"strconv"
	"testing"
)

// Main runs the tests of a package whose parallel tests mostly wait for nodes:
// three at once a processor, where -parallel does not say otherwise. It keeps
// the nodes that Borrow lends meanwhile. It is for TestMain, and returns the exit
// status.
func Main(m *testing.M) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
			panic(err) // the testing package has renamed its flag
		}
	}
	defer lendNodes()()
	return m.Run()
}

// EachAtOnce is Each with the releases side by side, for a test that takes long
// and whose f shares nothing between them. It returns when all have ended.
func EachAtOnce(t *testing.T, f func(t *testing.T, otp string)) {
	t.Helper()
	t.Run("releases", func(t *testing.T) {
		for _, r := range Releases() {
			t.Run("otp"+r, func(t *testing.T) {
				t.Parallel()
				f(t, r)
			})
		}
	})
}
