package dist

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFlags(t *testing.T) {
	assert.Equal(t, "0", Flags(0).String())
	assert.Equal(t, "FUN_TAGS|SPAWN|0x8000000000000000", (FlagFunTags | FlagSpawn | 1<<63).String())
	assert.Equal(t, FlagMandatory25Digest|mandatory25, FlagMandatory25Digest.expand())
	assert.Equal(t, FlagSpawn, FlagSpawn.expand())

	// What real nodes say is mandatory.
	assert.EqualValues(t, 17239956, mandatory25, "erts_internal:get_dflags() of OTP 25")
	assert.EqualValues(t, 17230663572, mandatory, "erts_internal:get_dflags() of OTP 27 and 29")
}

func TestConfigDefaults(t *testing.T) {
	c := Config{Flags: FlagPublished | FlagNameMe | FlagSpawn, TickTime: 8}.withDefaults()
	assert.Equal(t, mandatory|FlagMandatory25Digest|FlagSpawn, c.Flags, "hidden, and what every node demands")
	assert.EqualValues(t, 8, c.WriteTimeout)
	assert.Equal(t, DefaultMaxMessage, c.MaxMessage)
	assert.Equal(t, DefaultFlags, Config{}.withDefaults().Flags)

	for name, ok := range map[string]bool{
		"a@b": true, "a@b.example.org": true, "@b": false, "a@": false, "a": false, "a@b@c": false, "": false, "a\n@b": false, "\xff@b": false, "ä@b": true,
	} {
		assert.Equal(t, ok, checkName(name) == nil, name)
	}
}
