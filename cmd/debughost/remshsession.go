package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	controlpb "github.com/debughost/debughost/control/proto"
)

// remshSession is a shell between a front and a node.
type remshSession struct {
	ctx         context.Context
	stream      controlpb.Shell_OpenShellClient
	front       front
	completions chan *controlpb.ShellCompletions

	language string // of the shell; set before the first line is wanted
	left     atomic.Bool
	broken   atomic.Pointer[error] // of the front, which ended it
	asked    atomic.Uint32         // the last completion that was asked for

	mu sync.Mutex // one sends at a time
}

func (s *remshSession) send(req *controlpb.OpenShellRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(req)
}

// outputs takes what the node says, until the shell ends.
func (s *remshSession) outputs(wanted chan<- *controlpb.ShellRead) error {
	for {
		res, err := s.stream.Recv()
		if err != nil {
			return s.outcome(err)
		}
		switch o := res.GetOutput().(type) {
		case *controlpb.OpenShellResponse_Started:
			s.language = o.Started.GetLanguage()
			s.front.started(o.Started)
		case *controlpb.OpenShellResponse_Text:
			if err := s.front.print(o.Text); err != nil {
				return err
			}
		case *controlpb.OpenShellResponse_Read:
			select {
			case wanted <- o.Read:
			default: // never: the node asks for one line after the other
			}
		case *controlpb.OpenShellResponse_Completions:
			select {
			case s.completions <- o.Completions:
			default:
			}
		}
	}
}

// outcome is nil where the person left, or the shell ended as it should.
func (s *remshSession) outcome(err error) error {
	if broken := s.broken.Load(); broken != nil {
		return fmt.Errorf("remsh: %w", *broken)
	}
	if errors.Is(err, io.EOF) || s.left.Load() {
		return nil
	}
	return err
}

// lines sends what the person types when it is wanted.
func (s *remshSession) lines(wanted <-chan *controlpb.ShellRead) {
	for w := range wanted {
		line, err := s.front.read(w)
		for errors.Is(err, errInterrupt) && w.GetWanted() == "expression" && !w.GetMore() {
			line, err = s.front.read(w) // there is nothing to end: the next line
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, errInterrupt):
			s.interrupt()
			continue
		case err != nil || s.leaves(w, line):
			if err != nil && err != io.EOF {
				s.broken.Store(&err)
			}
			s.leave()
			return
		}
		content := &controlpb.ShellLine{Content: &controlpb.ShellLine_Text{Text: line}}
		if w.GetWanted() == "password" {
			content.Content = &controlpb.ShellLine_Password{Password: line}
		}
		_ = s.send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Line{Line: content}}) // Recv tells
	}
}

// leaves tells whether a line would stop the node where the person means to
// leave the shell.
func (s *remshSession) leaves(w *controlpb.ShellRead, line string) bool {
	return s.language == "erlang" && w.GetWanted() == "expression" && strings.TrimSpace(line) == "q()."
}

func (s *remshSession) leave() {
	s.left.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.stream.CloseSend()
}

func (s *remshSession) interrupt() {
	_ = s.send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Interrupt{Interrupt: &controlpb.ShellInterrupt{}}})
}

func (s *remshSession) resized(size *controlpb.ShellSize) {
	_ = s.send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Size{Size: size}})
}

// completionWait is how long a Tab may take.
const completionWait = 4 * time.Second

func (s *remshSession) complete(before string) *controlpb.ShellCompletions {
	id := s.asked.Add(1)
	err := s.send(&controlpb.OpenShellRequest{Input: &controlpb.OpenShellRequest_Complete{Complete: &controlpb.ShellComplete{Id: id, Before: before}}})
	if err != nil {
		return nil
	}
	late := time.NewTimer(completionWait)
	defer late.Stop()
	for {
		select {
		case c := <-s.completions:
			if c.GetId() == id {
				return c
			}
		case <-late.C:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}
