//go:build !linux && !darwin

package control

import "errors"

func peerCred(int) (Caller, error) {
	return Caller{}, errors.New("not supported on this system")
}
