package bottest

import (
	"encoding/json"
	"strconv"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

func (p params) location() (gotgbot.Location, *apiError) {
	latitude, ok1 := p.float("latitude")
	longitude, ok2 := p.float("longitude")
	if !ok1 || !ok2 || latitude < -90 || latitude > 90 || longitude < -180 || longitude > 180 {
		return gotgbot.Location{}, badRequest("location is invalid")
	}
	accuracy, _ := p.float("horizontal_accuracy")
	return gotgbot.Location{
		Latitude: latitude, Longitude: longitude, HorizontalAccuracy: accuracy,
		LivePeriod: p.int("live_period", 0, 0, 1<<31-1), Heading: p.int("heading", 0, 0, 360),
		ProximityAlertRadius: p.int("proximity_alert_radius", 0, 0, 100_000),
	}, nil
}

func sendLocation(q *request) (any, *apiError) {
	at, bad := q.params.location()
	if bad != nil {
		return nil, bad
	}
	return q.send(&gotgbot.Message{Location: &at})
}

func sendVenue(q *request) (any, *apiError) {
	at, bad := q.params.location()
	if bad != nil {
		return nil, bad
	}
	p := q.params
	if p.get("title") == "" || p.get("address") == "" {
		return nil, badRequest("venue title and address must be non-empty")
	}
	return q.send(&gotgbot.Message{Location: &at, Venue: &gotgbot.Venue{
		Location: at, Title: p.get("title"), Address: p.get("address"),
		FoursquareId: p.get("foursquare_id"), GooglePlaceId: p.get("google_place_id"),
	}})
}

func sendContact(q *request) (any, *apiError) {
	p := q.params
	switch {
	case p.get("phone_number") == "":
		return nil, badRequest("phone number is empty")
	case p.get("first_name") == "":
		return nil, badRequest("first name is empty")
	}
	return q.send(&gotgbot.Message{Contact: &gotgbot.Contact{
		PhoneNumber: p.get("phone_number"), FirstName: p.get("first_name"),
		LastName: p.get("last_name"), Vcard: p.get("vcard"),
	}})
}

// maxOptions is how many answers a poll may have (Bot API, sendPoll).
const maxOptions = 12

func sendPoll(q *request) (any, *apiError) {
	p := q.params
	if p.get("question") == "" {
		return nil, badRequest("poll question must be non-empty")
	}
	if utf16Len(p.get("question")) > 300 {
		return nil, badRequest("poll question length must not exceed 300")
	}
	var options []json.RawMessage
	if _, err := p.json("options", &options); err != nil {
		return nil, badRequest("can't parse options JSON object")
	}
	switch {
	case len(options) < 1:
		return nil, badRequest("poll must have at least 1 option")
	case len(options) > maxOptions:
		return nil, badRequest("poll can't have more than " + strconv.Itoa(maxOptions) + " options")
	}
	poll := &gotgbot.Poll{
		Id: strconv.FormatInt(q.srv.rand.between(1<<60, 1<<62), 10), Question: p.get("question"),
		IsAnonymous: p.get("is_anonymous") == "" || p.bool("is_anonymous"), Type: "regular",
		AllowsMultipleAnswers: p.bool("allows_multiple_answers"), IsClosed: p.bool("is_closed"),
		Explanation: p.get("explanation"), OpenPeriod: p.int("open_period", 0, 0, 1<<31),
	}
	for i, raw := range options {
		var o struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(raw, &o.Text) != nil && json.Unmarshal(raw, &o) != nil {
			return nil, badRequest("expected an option to be of type String")
		}
		if o.Text == "" {
			return nil, badRequest("poll options must be non-empty")
		}
		poll.Options = append(poll.Options, gotgbot.PollOption{PersistentId: strconv.Itoa(i), Text: o.Text})
	}
	switch p.get("type") {
	case "", "regular":
	case "quiz":
		poll.Type = "quiz"
		if _, err := p.json("correct_option_ids", &poll.CorrectOptionIds); err != nil {
			return nil, badRequest("can't parse correct option identifiers JSON object")
		}
		if p.get("correct_option_id") != "" {
			poll.CorrectOptionIds = []int64{p.id("correct_option_id")}
		}
		for _, id := range poll.CorrectOptionIds {
			if id < 0 || id >= int64(len(options)) {
				return nil, badRequest("wrong correct option ID specified")
			}
		}
	default:
		return nil, badRequest("unsupported poll type specified")
	}
	return q.send(&gotgbot.Message{Poll: poll})
}

func sendDice(q *request) (any, *apiError) {
	emoji := q.params.get("emoji")
	highest := map[string]int64{"": 6, "🎲": 6, "🎯": 6, "🎳": 6, "🏀": 5, "⚽": 5, "🎰": 64}[emoji]
	if highest == 0 {
		return nil, badRequest("invalid dice emoji specified")
	}
	if emoji == "" {
		emoji = "🎲"
	}
	return q.send(&gotgbot.Message{Dice: &gotgbot.Dice{Emoji: emoji, Value: q.srv.rand.between(1, highest)}})
}
