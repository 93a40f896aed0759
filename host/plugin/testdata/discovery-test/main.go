// discovery-test is a plugin that does what a test wants of it. Before it
// serves, the file <its path>.mode decides; afterwards its config does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/debughost/debughost/sdk"
)

type strategy struct {
	name string

	Nodes     []string      `json:"nodes"`
	Error     string        `json:"error"`      // the answer is this error
	Then      []string      `json:"then"`       // a second answer, after the error
	Answer    string        `json:"answer"`     // once, never, flood, end, huge, quarrel
	Count     int           `json:"count"`      // nodes that are made up
	ExitAfter time.Duration `json:"exit_after"` // the process exits with status 7
	Panic     bool          `json:"panic"`      // outside of a call
	Output    string        `json:"output"`     // log, stdout, stderr, fd1, fd2: a flood on it
	Child     string        `json:"child"`      // a child process that holds stdout; its pid goes to this file
	Stubborn  bool          `json:"stubborn"`   // does not end when asked to
	Self      bool          `json:"self"`       // one more node tells what the host says of itself
	EnvFile   string        `json:"env_file"`   // where to write the environment and what stdin has
}

func (s *strategy) Describe() sdk.Info {
	return sdk.Info{Name: s.name, Version: "1.2.3", Config: s}
}

func (s *strategy) Configured(context.Context) error {
	if s.EnvFile != "" {
		stdin := make([]byte, 1)
		n, err := os.Stdin.Read(stdin)
		text := fmt.Sprintf("stdin %d %v\n%s\n", n, err, strings.Join(os.Environ(), "\n"))
		if err := os.WriteFile(s.EnvFile, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if s.Child != "" {
		child := exec.Command("sleep", "1000")
		child.Stdout, child.Stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
		if err := child.Start(); err != nil {
			return err
		}
		if err := os.WriteFile(s.Child, fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
			return err
		}
	}
	if s.ExitAfter > 0 {
		time.AfterFunc(s.ExitAfter, func() { os.Exit(7) })
	}
	if s.Panic {
		go func() { panic("out of cheese") }()
	}
	if s.Output != "" {
		go s.shout()
	}
	return nil
}

func (s *strategy) shout() {
	line := strings.Repeat("la ", 100) + "\n"
	fd1, fd2 := os.NewFile(1, "stdout"), os.NewFile(2, "stderr")
	for i := 0; ; i++ {
		switch s.Output {
		case "log":
			sdk.Logger().Warn("shouting", "i", i)
		case "stdout":
			fmt.Print(line)
		case "stderr":
			fmt.Fprint(os.Stderr, line)
		case "fd1":
			_, _ = fd1.WriteString(line)
		case "fd2":
			_, _ = fd2.WriteString(line)
		}
	}
}

func (s *strategy) Watch(ctx context.Context, emit func(sdk.Answer) error) error {
	var nodes []sdk.Node
	for _, name := range s.Nodes {
		nodes = append(nodes, sdk.Node{Name: name})
	}
	for i := range s.Count {
		nodes = append(nodes, sdk.Node{Name: fmt.Sprintf("n%d@host", i)})
	}
	if self, ok := sdk.SelfFrom(ctx); s.Self && ok {
		name := fmt.Sprintf("%s-%s-%d-%d", self.Member, self.Finds, self.Incarnation, len(self.Secrets))
		for _, secret := range self.Secrets {
			name += "-" + string(secret.Bytes())
		}
		nodes = append(nodes, sdk.Node{Name: name + "@" + self.Cluster + "-" + strings.ReplaceAll(self.Addr, ":", "-")})
	}
	answer := sdk.Answer{Nodes: nodes}
	if s.Error != "" {
		answer.Err = sdk.WithHint(errors.New(s.Error), "try again")
	}
	switch s.Answer {
	case "never":
		<-ctx.Done()
		return ctx.Err()
	case "end":
		return errors.New("the lookup broke")
	case "flood":
		for i := 0; ; i++ {
			if err := emit(sdk.Answer{Nodes: append(nodes, sdk.Node{Name: fmt.Sprintf("n%d@flood", i)})}); err != nil {
				return err
			}
		}
	case "quarrel": // an error with ever new words
		for i := 0; i < 50; i++ {
			if err := emit(sdk.Answer{Err: fmt.Errorf("lookup %d failed", i)}); err != nil {
				return err
			}
		}
	case "huge":
		many := make([]sdk.Node, 60)
		for i := range many {
			many[i] = sdk.Node{Name: fmt.Sprintf("n%d@host", i), Metadata: map[string]string{"x": strings.Repeat("x", 1<<20)}}
			many[i].Metadata["x"] = strings.Repeat("x", 7<<10)
			for k := range 60 {
				many[i].Metadata[fmt.Sprint(k)] = strings.Repeat("x", 7<<10)
			}
		}
		answer = sdk.Answer{Nodes: many}
	}
	if err := emit(answer); err != nil {
		return err
	}
	if s.Then != nil {
		answer = sdk.Answer{}
		for _, name := range s.Then {
			answer.Nodes = append(answer.Nodes, sdk.Node{Name: name})
		}
		if err := emit(answer); err != nil {
			return err
		}
	}
	<-ctx.Done()
	if s.Stubborn {
		select {}
	}
	return nil
}

func (s *strategy) Close() error {
	if s.Stubborn {
		select {}
	}
	return nil
}

type placement struct{ name string }

func (p *placement) Describe() sdk.Info { return sdk.Info{Name: p.name, Version: "1"} }

func (p *placement) Choose(context.Context, sdk.PlacementRequest) (sdk.Decision, error) {
	return sdk.Decision{Member: "m1"}, nil
}

func main() {
	name := filepath.Base(os.Args[0])
	mode, _ := os.ReadFile(os.Args[0] + ".mode")
	switch strings.TrimSpace(string(mode)) {
	case "exit":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(3)
	case "garbage":
		for {
			fmt.Print(strings.Repeat("\x00\xffgarbage", 1000))
		}
	case "text":
		fmt.Println("hello world")
		time.Sleep(time.Hour)
	case "hang":
		time.Sleep(time.Hour)
	case "version":
		fmt.Println("1|99|unix|/nowhere|grpc|")
		time.Sleep(time.Hour)
	case "core":
		fmt.Println("9|1|unix|/nowhere|grpc|")
		time.Sleep(time.Hour)
	case "tcp":
		fmt.Println("1|1|tcp|127.0.0.1:1|grpc|")
		time.Sleep(time.Hour)
	case "netrpc":
		fmt.Printf("1|1|unix|%s/x|netrpc|\n", os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
		time.Sleep(time.Hour)
	case "deaf": // accepts and says nothing
		path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "deaf")
		if _, err := net.Listen("unix", path); err != nil {
			panic(err)
		}
		fmt.Printf("1|1|unix|%s|grpc|\n", path)
		time.Sleep(time.Hour)
	case "liar":
		name = "discovery-liar"
	case "placement":
		sdk.Serve(&placement{"discovery-" + name})
	}
	if strings.HasPrefix(name, "placement-") {
		sdk.Serve(&placement{name})
		return
	}
	var s strategy
	if config, err := os.ReadFile(os.Args[0] + ".defaults"); err == nil {
		if err := json.Unmarshal(config, &s); err != nil {
			panic(err)
		}
	}
	s.name = name
	sdk.Serve(&s)
}
