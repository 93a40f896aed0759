package broadcast

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSignal(t *testing.T) {
	var s Signal
	s.Tell() // nobody waits, and nothing is remembered
	first := s.Next()
	require.Equal(t, first, s.Next(), "all wait at one channel")
	select {
	case <-first:
		t.Fatal("told of what was before")
	default:
	}
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() { <-first })
	}
	s.Tell()
	waiting.Wait()
	select {
	case <-s.Next():
		t.Fatal("told twice")
	default:
	}
}
