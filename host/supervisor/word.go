package supervisor

import "unique"

// word is a short text that many children have, of which there is one in memory. The
// zero value is the empty one.
type word struct{ h unique.Handle[string] }

func wordOf(s string) word {
	if s == "" {
		return word{}
	}
	return word{unique.Make(s)}
}

func (w word) String() string {
	if w == (word{}) {
		return ""
	}
	return w.h.Value()
}

// MarshalText writes a word.
func (w word) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads one.
func (w *word) UnmarshalText(b []byte) error {
	*w = wordOf(string(b))
	return nil
}
