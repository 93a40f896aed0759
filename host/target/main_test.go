package target_test

import (
	"os"
	"testing"

	"github.com/debughost/debughost/erl/erltest"
)

func TestMain(m *testing.M) { os.Exit(erltest.Main(m)) }
