package pipeline

import (
	"context"
	"errors"
	"maps"
	"slices"

	"liveops/core/event"
	"liveops/core/fault"
	"liveops/core/progression"
	"liveops/core/receipt"
	"liveops/core/store"
)

// sign makes the receipts of the fresh effects that are stated.
func sign(keys *receipt.Keys, effects []*progression.Effect) ([]receipt.Issued, error) {
	var issued []receipt.Issued
	for _, effect := range effects {
		if !effect.Fresh || !stated(effect) {
			continue
		}
		claims := claims(effect)
		token, err := keys.Sign(claims)
		if err != nil {
			return nil, err
		}
		issued = append(issued, receipt.Issued{Claims: claims, Token: token})
	}
	return issued, nil
}

// stated says whether an effect has a receipt: it granted something, or took something back.
func stated(e *progression.Effect) bool { return e.Granted() || e.Event.Type == event.EventReversed }

func claims(e *progression.Effect) receipt.Claims {
	c := receipt.Claims{
		PlayerID: e.Event.PlayerID, EventID: e.Event.ID, Type: e.Event.Type,
		XP: e.XP, XPBefore: e.XPBefore, XPAfter: e.XPAfter, Modifier: e.Modifier, LevelBefore: e.LevelBefore, LevelAfter: e.LevelAfter,
		CatalogVersion: e.CatalogVersion, IssuedAt: e.Event.ReceivedAt.Unix(),
	}
	switch e.Event.Type {
	case event.EventReversed:
		c.Reverses, _ = e.Event.Text("event_id")
	case event.RewardGranted:
		c.Board, _ = e.Event.Text("board")
		c.Window, _ = e.Event.Text("window")
		c.Rank, _ = e.Event.Int("rank")
	}
	for _, g := range e.Grants {
		c.Grants = append(c.Grants, receipt.Grant{Kind: g.Kind, Item: g.Item, Quantity: g.Quantity})
	}
	for _, m := range e.Mails {
		mail := receipt.Mail{ID: m.ID}
		for _, item := range slices.Sorted(maps.Keys(m.Items)) {
			mail.Items = append(mail.Items, receipt.MailItem{Item: item, Quantity: m.Items[item]})
		}
		c.Mails = append(c.Mails, mail)
	}
	for _, n := range e.Notes {
		c.Notes = append(c.Notes, receipt.Note(n))
	}
	return c
}

// counted is how many of the effects are fresh, and how many of those have a receipt.
func counted(effects []*progression.Effect) (fresh, receipts int) {
	for _, effect := range effects {
		if !effect.Fresh {
			continue
		}
		fresh++
		if stated(effect) {
			receipts++
		}
	}
	return fresh, receipts
}

// receiptOf gives the receipt of an event, empty where it has none.
func receiptOf(ctx context.Context, db *store.DB, player, eventID string) (string, error) {
	stored, err := receipt.Get(ctx, db, player, eventID)
	if errors.Is(err, fault.ReceiptNotFound) {
		return "", nil
	}
	return stored.Token, err
}
