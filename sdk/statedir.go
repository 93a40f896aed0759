package sdk

import "context"

type stateDirKey struct{}

// WithStateDir returns a context that tells a Configured where the plugin may
// keep files: a directory that is the plugin's alone and stays what it is when
// plugin and host are restarted. The host makes it, with mode 0700. Empty tells
// of none. The host and tests use it.
func WithStateDir(ctx context.Context, dir string) context.Context {
	return context.WithValue(ctx, stateDirKey{}, dir)
}

// StateDirFrom returns the plugin's own directory from the context of
// Configured; false means that the host offers none. Every process of the
// plugin gets the same one, also two that run at once while a config is
// reloaded.
func StateDirFrom(ctx context.Context) (string, bool) {
	dir, _ := ctx.Value(stateDirKey{}).(string)
	return dir, dir != ""
}
