//go:build unix && !linux

package keeper

import (
	"os"
	"syscall"
)

func isolations() []Isolation { return []Isolation{NoNamespace} }

func (Isolation) sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func (Isolation) settle() (*os.File, error) { return nil, nil }

func outsidePid(*os.File, int) int { return 0 }
