package bottest

import (
	"encoding/json"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// A Group is a group, a supergroup or a channel.
type Group struct {
	// ID is the chat's id, as a bot gives it in chat_id.
	ID int64

	chat *chat
}

// A Member can be in a group: a [*User] or a [*Bot].
type Member interface {
	profile() gotgbot.User
}

// NewGroup makes a basic group with these members. The first user among them is
// its creator. The bots are told that they were added.
func (s *Server) NewGroup(title string, members ...Member) *Group {
	return s.newGroup(gotgbot.Chat{Type: "group", Title: title}, members)
}

// NewSupergroup makes a supergroup, as [Server.NewGroup] does a group.
func (s *Server) NewSupergroup(title string, members ...Member) *Group {
	return s.newGroup(gotgbot.Chat{Type: "supergroup", Title: title}, members)
}

// NewChannel makes a channel; username may be "" for a private one. The bots
// among its members are administrators, since others cannot be in it.
func (s *Server) NewChannel(username string, members ...Member) *Group {
	return s.newGroup(gotgbot.Chat{Type: "channel", Title: username, Username: username}, members)
}

func (s *Server) newGroup(info gotgbot.Chat, members []Member) *Group {
	s.world.mu.Lock()
	if info.Type == "group" {
		s.world.lastGroup--
		info.Id = s.world.lastGroup
	} else {
		s.world.lastSupergroup--
		info.Id = s.world.lastSupergroup
	}
	c := &chat{srv: s, info: info, members: make(map[int64]*member)}
	s.world.chats[info.Id] = c
	s.world.take(info.Username, c)
	s.world.mu.Unlock()

	g := &Group{ID: info.Id, chat: c}
	owner := firstUser(members)
	if owner == nil {
		owner = s.NewUser("Owner")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[owner.ID] = &member{user: owner.profile(), status: creator}
	for _, m := range members {
		if m != Member(owner) {
			c.join(m, owner.profile())
		}
	}
	return g
}

func firstUser(members []Member) *User {
	for _, m := range members {
		if u, ok := m.(*User); ok {
			return u
		}
	}
	return nil
}

// current is the group's chat, or the supergroup it has become.
func (g *Group) current() *chat {
	g.chat.mu.Lock()
	defer g.chat.mu.Unlock()
	if g.chat.upgraded != nil {
		return g.chat.upgraded
	}
	return g.chat
}

// Add adds a user or bot to the group. By is who does it, nil for the creator,
// or for a user who joins. A bot is told of itself in my_chat_member, and all
// bots see the service message.
func (g *Group) Add(m Member, by *User) {
	c := g.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	who := c.creator()
	if by != nil {
		who = by.profile()
	} else if _, isUser := m.(*User); isUser {
		who = m.profile()
	}
	if c.members[m.profile().Id].in() {
		return
	}
	c.join(m, who)
	if c.info.Type != "channel" {
		c.post(&gotgbot.Message{From: &who, NewChatMembers: []gotgbot.User{m.profile()}}, nil)
	}
}

// Kick removes a user or bot from the group and bans it: what the bot writes
// there is answered with "Forbidden: bot was kicked from the group chat".
func (g *Group) Kick(m Member) {
	c := g.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	who := c.creator()
	c.setStatus(m, who, kicked)
	p := m.profile()
	if c.info.Type != "channel" {
		c.post(&gotgbot.Message{From: &who, LeftChatMember: &p}, nil)
	}
}

// Promote makes a user or bot an administrator.
func (g *Group) Promote(m Member) {
	c := g.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setStatus(m, c.creator(), administrator)
}

// Upgrade makes a supergroup of a basic group and returns it. The old chat
// refuses messages with "Bad Request: group chat was upgraded to a supergroup
// chat" and names the new one in migrate_to_chat_id, and both chats get
// their service message. The old Group goes on to work: it means the
// supergroup now. Of what is none, Upgrade returns the same.
func (g *Group) Upgrade() *Group {
	old := g.chat
	old.mu.Lock()
	defer old.mu.Unlock()
	if old.upgraded != nil {
		return &Group{ID: old.upgraded.info.Id, chat: old.upgraded}
	}
	if old.info.Type != "group" {
		return g
	}
	s := old.srv
	fresh := &chat{srv: s, info: old.info, members: make(map[int64]*member)}
	fresh.info.Type = "supergroup"
	s.world.mu.Lock()
	s.world.lastSupergroup--
	fresh.info.Id = s.world.lastSupergroup
	s.world.chats[fresh.info.Id] = fresh
	s.world.mu.Unlock()
	for id, m := range old.members {
		copied := *m
		fresh.members[id] = &copied
	}
	who := old.creator()
	old.post(&gotgbot.Message{From: &who, MigrateToChatId: fresh.info.Id}, nil)
	old.upgraded = fresh
	fresh.mu.Lock()
	defer fresh.mu.Unlock()
	fresh.post(&gotgbot.Message{From: &who, MigrateFromChatId: old.info.Id}, nil)
	return &Group{ID: fresh.info.Id, chat: fresh}
}

// creator is who made the chat. The caller holds mu.
func (c *chat) creator() gotgbot.User {
	for _, m := range c.members {
		if m.status == creator {
			return m.user
		}
	}
	return gotgbot.User{}
}

// join makes somebody a member. The caller holds mu.
func (c *chat) join(m Member, by gotgbot.User) {
	status := plainMember
	if _, isBot := m.(*Bot); isBot && c.info.Type == "channel" {
		status = administrator
	}
	c.setStatus(m, by, status)
}

// setStatus changes what somebody is in the chat, and tells the bots that
// are to know. The caller holds mu.
func (c *chat) setStatus(who Member, by gotgbot.User, status string) {
	p := who.profile()
	m := c.members[p.Id]
	if m == nil {
		m = &member{status: left}
		c.members[p.Id] = m
	}
	was := m.status
	m.user, m.status = p, status
	if b, isBot := who.(*Bot); isBot {
		m.bot = b
		b.meet(by.Id)
		c.tellOwnStatus(b, by, was, status)
	}
	body := c.memberUpdate(p, by, was, status)
	for _, other := range c.members {
		if other.bot != nil && other.user.Id != p.Id && other.status == administrator {
			other.bot.push("chat_member", body, lane{kind: "member", id: p.Id}, keepUpdate)
		}
	}
}

// tellOwnStatus sends a bot my_chat_member. The caller holds mu.
func (c *chat) tellOwnStatus(b *Bot, by gotgbot.User, was, is string) {
	b.push("my_chat_member", c.memberUpdate(b.profile(), by, was, is), lane{kind: "own", id: c.info.Id}, keepUpdate)
}

func (c *chat) memberUpdate(who, by gotgbot.User, was, is string) json.RawMessage {
	body, err := json.Marshal(map[string]any{
		"chat":            c.info,
		"from":            by,
		"date":            time.Now().Unix(),
		"old_chat_member": c.memberJSON(who, was),
		"new_chat_member": c.memberJSON(who, is),
	})
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return body
}

// memberJSON is a ChatMember with the fields its status demands.
func (c *chat) memberJSON(who gotgbot.User, status string) any {
	m := gotgbot.MergedChatMember{Status: status, User: who}
	if status == administrator {
		m.CanManageChat, m.CanDeleteMessages, m.CanInviteUsers = true, true, true
		m.CanChangeInfo, m.CanRestrictMembers, m.CanPinMessages = true, true, true
		m.CanManageTopics = c.info.Type == "supergroup"
		m.CanPostMessages, m.CanEditMessages, m.CanManageVideoChats = true, true, true
	}
	return m
}
