package pipeline

import (
	"liveops/core/event"
	"liveops/core/progression"
	"liveops/core/receipt"
)

// sign makes the receipts of the fresh effects that granted something.
func sign(keys *receipt.Keys, effects []*progression.Effect) ([]receipt.Issued, error) {
	var issued []receipt.Issued
	for _, effect := range effects {
		if !effect.Fresh || !effect.Granted() {
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

func claims(e *progression.Effect) receipt.Claims {
	c := receipt.Claims{
		PlayerID: e.Event.PlayerID, EventID: e.Event.ID, Type: e.Event.Type,
		XP: e.XP, XPBefore: e.XPBefore, XPAfter: e.XPAfter, LevelBefore: e.LevelBefore, LevelAfter: e.LevelAfter,
		CatalogVersion: e.CatalogVersion, IssuedAt: e.Event.ReceivedAt.Unix(),
	}
	if e.Event.Type == event.RewardGranted {
		c.Board, _ = e.Event.Text("board")
		c.Window, _ = e.Event.Text("window")
		c.Rank, _ = e.Event.Int("rank")
	}
	for _, g := range e.Grants {
		c.Grants = append(c.Grants, receipt.Grant{Kind: g.Kind, Item: g.Item, Quantity: g.Quantity})
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
		if effect.Granted() {
			receipts++
		}
	}
	return fresh, receipts
}
