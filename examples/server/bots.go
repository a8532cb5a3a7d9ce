package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/tgfleet/tgfleet/session/bottest"
)

// bots are those of the fake Telegram. A file is its memory where it has one: a
// line for each token that it has given out, so that it knows after a restart
// which is valid, whatever the fleet's database says.
type bots struct {
	srv *bottest.Server

	mu     sync.Mutex // guards what follows
	file   *os.File   // nil: it begins anew each time
	byName map[string]*bottest.Bot
}

// openBots has the fake Telegram know the bots of a file, which is made where
// there is none; "" is no file.
func openBots(srv *bottest.Server, path string) (*bots, error) {
	b := &bots{srv: srv, byName: make(map[string]*bottest.Bot)}
	if path == "" {
		return b, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	latest := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if name, token, ok := strings.Cut(lines.Text(), " "); ok {
			latest[name] = token
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for name, token := range latest {
		if b.byName[name], err = srv.RestoreBot(name, token); err != nil {
			return nil, err
		}
	}
	b.file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return b, err
}

// get returns the bot of that name, which is made where there is none.
func (b *bots) get(name string) (*bottest.Bot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bot := b.byName[name]; bot != nil {
		return bot, nil
	}
	bot := b.srv.NewBot(name)
	b.byName[name] = bot
	return bot, b.remember(name, bot.Token())
}

// rotate gives a bot a new token, and returns it.
func (b *bots) rotate(name string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	token := b.byName[name].RotateToken()
	return token, b.remember(name, token)
}

// restore makes a bot known that an earlier run has left in the database. One
// with a memory knows its bots.
func (b *bots) restore(name, token string) (*bottest.Bot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		if b.byName[name] == nil {
			return nil, fmt.Errorf("no bot of the fake Telegram is named %q", name)
		}
		return b.byName[name], nil
	}
	bot, err := b.srv.RestoreBot(name, token)
	if err == nil {
		b.byName[name] = bot
	}
	return bot, err
}

// remember is one write, so that it is there whole or not at all when we are
// killed.
func (b *bots) remember(name, token string) error {
	if b.file == nil {
		return nil
	}
	_, err := b.file.WriteString(name + " " + token + "\n")
	return err
}

func (b *bots) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
