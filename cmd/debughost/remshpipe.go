package main

import (
	"bufio"
	"fmt"
	"io"

	"github.com/debughost/debughost/control"
	controlpb "github.com/debughost/debughost/control/proto"
)

// newFront is a terminal where both ends are one, else pipes.
func (a *app) newFront(r remote) (front, error) {
	if fd, ok := terminalOf(a.in); ok && a.outTTY {
		return newTerminalFront(a, fd, r)
	}
	return &pipeFront{a: a, in: bufio.NewReader(a.in)}, nil
}

// pipeFront reads lines from standard input and prints no prompts.
type pipeFront struct {
	a    *app
	in   *bufio.Reader
	tame tame
}

func (f *pipeFront) started(*controlpb.ShellStarted) {}

func (f *pipeFront) print(text string) error {
	_, err := io.WriteString(f.a.out, f.tame.text(text, f.a.colors()))
	return err
}

func (f *pipeFront) read(*controlpb.ShellRead) (string, error) {
	line, err := f.in.ReadSlice('\n') // as long as its buffer, else an error
	long := err == bufio.ErrBufferFull
	text := string(line)
	for long {
		if line, err = f.in.ReadSlice('\n'); len(text)+len(line) > control.MaxShellLine {
			return "", fmt.Errorf("a line is longer than %d bytes", control.MaxShellLine)
		}
		text += string(line)
		long = err == bufio.ErrBufferFull
	}
	if err == io.EOF && text != "" {
		return text + "\n", nil
	}
	return text, err
}

func (f *pipeFront) size() *controlpb.ShellSize { return nil }

func (f *pipeFront) close() {}
