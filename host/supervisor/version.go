package supervisor

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"unique"
)

// version orders the values that one part of a record has had. Of two with one
// epoch, which only members out of each other's sight can make, the one from a
// majority is the greater, then that of the author whose name is. Each child has
// several: so it is small.
type version struct {
	Epoch uint64
	At    int64 // wall clock of the author, Unix nanoseconds
	by    unique.Handle[signature]
}

// signature is who made a version.
type signature struct {
	author string
	quorum bool // a majority was in the author's sight
}

func versionOf(epoch uint64, quorum bool, author string, at int64) version {
	v := version{Epoch: epoch, At: at}
	if s := (signature{author, quorum}); s != (signature{}) {
		v.by = unique.Make(s)
	}
	return v
}

func (v version) signature() signature {
	if v.by == (unique.Handle[signature]{}) {
		return signature{}
	}
	return v.by.Value()
}

func (v version) compare(w version) int {
	if c := cmp.Compare(v.Epoch, w.Epoch); c != 0 {
		return c
	}
	if v.by != w.by {
		s, t := v.signature(), w.signature()
		if s.quorum != t.quorum {
			if s.quorum {
				return 1
			}
			return -1
		}
		if c := strings.Compare(s.author, t.author); c != 0 {
			return c
		}
	}
	return cmp.Compare(v.At, w.At)
}

func (v version) covers(w version) bool { return v.compare(w) >= 0 }

// versionJSON is a version on the disk and the wire.
type versionJSON struct {
	Epoch  uint64 `json:"e"`
	Quorum bool   `json:"q,omitempty"`
	Author string `json:"a,omitempty"`
	At     int64  `json:"t,omitempty"`
}

// MarshalJSON writes a version as a versionJSON, of which there are many.
func (v version) MarshalJSON() ([]byte, error) {
	s := v.signature()
	b := strconv.AppendUint(append(make([]byte, 0, 64+len(s.author)), `{"e":`...), v.Epoch, 10)
	if s.quorum {
		b = append(b, `,"q":true`...)
	}
	if s.author != "" {
		author, err := marshal(s.author)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"a":`...), author...)
	}
	if v.At != 0 {
		b = strconv.AppendInt(append(b, `,"t":`...), v.At, 10)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads one.
func (v *version) UnmarshalJSON(b []byte) error {
	var j versionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*v = versionOf(j.Epoch, j.Quorum, j.Author, j.At)
	return nil
}
