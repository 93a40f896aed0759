package discoveryepmd

import (
	"strings"
	"testing"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
)

func secrets(texts ...string) (all []sdk.Secret) {
	for _, s := range texts {
		all = append(all, sdk.NewSecret([]byte(s)))
	}
	return all
}

func TestAnnouncementRoundTrip(t *testing.T) {
	for _, a := range []announcement{
		{cluster: "", member: "a", addr: "10.0.0.1:7946"},
		{cluster: "pro d/%", member: "web-1.example.org", addr: "[fe80::1%eth0]:1"},
		{cluster: "Übung", member: "größe", addr: "db1.example.org:65535"},
	} {
		for _, s := range [][]sdk.Secret{nil, secrets("new", "old")} {
			text, err := a.encode(s)
			require.NoError(t, err)
			got, err := parseAnnouncement(text)
			require.NoError(t, err, "%s", text)
			require.Equal(t, [3]string{a.cluster, a.member, a.addr}, [3]string{got.cluster, got.member, got.addr})
			require.True(t, got.provenBy(s))
			require.Equal(t, s != nil, got.provenBy(secrets("other", "new")))
			require.False(t, got.provenBy(secrets("old")))
			require.True(t, got.provenBy(nil))
		}
	}
}

func TestAnnouncementTooLong(t *testing.T) {
	_, err := announcement{cluster: strings.Repeat("x", 215), member: "a", addr: "10.0.0.1:1"}.encode(secrets("s"))
	require.ErrorContains(t, err, "at most 255 fit")
	require.Contains(t, sdk.Hint(err), "shorter")
}

// The format is between versions of debughost.
func TestAnnouncementGolden(t *testing.T) {
	text, err := announcement{cluster: "prod", member: "größe", addr: "10.0.0.1:7946"}.encode(secrets("secret"))
	require.NoError(t, err)
	require.Equal(t, "debughost/1 prod gr%C3%B6%C3%9Fe 10.0.0.1:7946 heB9ZmUW4m-URnMGvnJhLA", string(text))
}

func TestWhatIsNoAnnouncement(t *testing.T) {
	good := "debughost/1 c a 10.0.0.1:1 -"
	_, err := parseAnnouncement([]byte(good))
	require.NoError(t, err)
	for _, bad := range []string{
		"", "debughost/1", "debughost/2 c a 10.0.0.1:1 -", good + " ", " " + good, good + "\n",
		"debughost/1 c  10.0.0.1:1 -", "debughost/1 c a 10.0.0.1 -", "debughost/1 c a 10.0.0.1:0 -",
		"debughost/1 c a 10.0.0.1:1 ", "debughost/1 c a 10.0.0.1:1 AAAA",
		"debughost/1 c a 10.0.0.1:1 AAAAAAAAAAAAAAAAAAAAAB", // the last bits are not zero
		"debughost/1 c %61 10.0.0.1:1 -", "debughost/1 c a%0A 10.0.0.1:1 -", "debughost/1 c %zz 10.0.0.1:1 -",
		"debughost/1 c a%20b 10.0.0.1:1 -", "debughost/1 c a 10.0.0.1:1/ -",
		good + strings.Repeat("x", 300),
	} {
		_, err := parseAnnouncement([]byte(bad))
		require.Error(t, err, "%q", bad)
	}
}

func TestRegistrationNames(t *testing.T) {
	self := sdk.Self{Member: "web 1/ä@x.example.org.of.a.name.that.is.very.long", Cluster: "c", Addr: "10.0.0.1:7946"}
	n := registration(self, 7946, 0, []byte("x"))
	require.Regexp(t, `^debughost-web_1___x_example_org_of_a_name_that_is-[0-9a-f]{8}$`, n.Name)
	require.Equal(t, n.Name+"-2", registration(self, 7946, 1, nil).Name)
	self.Cluster = "d"
	require.NotEqual(t, n.Name, registration(self, 7946, 0, nil).Name)
}

func FuzzAnnouncement(f *testing.F) {
	for _, s := range [][]sdk.Secret{nil, secrets("s")} {
		text, err := announcement{cluster: "pro d", member: "a", addr: "[::1]:7946"}.encode(s)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte("debughost/1 %25 %C3%A4 localhost:1 AAAAAAAAAAAAAAAAAAAAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnnouncement(b)
		if err != nil {
			return
		}
		// It can be listed, and there is no other text for it.
		require.NoError(t, sdk.Node{Name: a.member, Addr: a.addr, Role: sdk.RoleMember}.Validate())
		again, err := a.encode(nil)
		require.NoError(t, err)
		require.Equal(t, a.signed+" -", string(again))
		require.True(t, strings.HasPrefix(string(b), a.signed+" "))
		require.False(t, a.provenBy(secrets("a secret that nobody knows")))
	})
}
