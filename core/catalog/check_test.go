package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"liveops/core/catalog"
	"liveops/core/event"
	"liveops/core/fault"
)

func parsed(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Parse([]byte(full))
	require.NoError(t, err)
	return c
}

func TestCheck(t *testing.T) {
	t.Parallel()
	c := parsed(t)
	type data = map[string]any
	field := func(pointer string, code fault.Code, detail string) fault.Field {
		return fault.Field{Pointer: pointer, Code: code, Detail: detail}
	}
	const limits = "from -(2^53-1) to 2^53-1"
	for _, test := range []struct {
		name, typ string
		data      data
		want      []fault.Field
	}{
		{"xp", "xp_gained", data{"amount": 10.0, "source": "match"}, nil},
		{"bounds are not form", "xp_gained", data{"amount": 9e15, "source": "elsewhere"}, nil},
		{"score", "score_submitted", data{"board": "rating", "score": -9007199254740991.0}, nil},
		{"score for one window, with more", "score_submitted", data{"board": "rating", "score": 1.0, "window_id": "2026-W48", "hero": "twelve-chars"}, nil},
		{"boss", "boss_killed", data{"boss": "dragon"}, nil},
		{"item", "item_acquired", data{"item": "gold", "quantity": 1.0}, nil},
		{"item of a family", "item_acquired", data{"item": "eco-c00", "quantity": 1.0}, nil},
		{"declared", "match_finished", data{"map": "foundry", "won": true, "seconds": 10.0}, nil},
		{"optional left out", "match_finished", data{"map": "foundry", "won": true}, nil},

		{"too long", "score_submitted", data{"board": "rating", "score": 1.0, "hero": "thirteen-char", "window_id": 7.0}, []fault.Field{
			field("/data/hero", fault.FieldRange, "at most 12 characters"), field("/data/window_id", fault.FieldType, "must be a string"),
		}},
		{"made here only", "reward_granted", data{}, []fault.Field{field("/type", fault.TypeUnknown, "")}},
		{"type unknown", "level_hacked", data{"level": 99.0}, []fault.Field{field("/type", fault.TypeUnknown, "")}},
		{"all missing", "xp_gained", data{}, []fault.Field{
			field("/data/amount", fault.FieldMissing, "required, an integer"), field("/data/source", fault.FieldMissing, "required, a string"),
		}},
		{"unknown fields", "boss_killed", data{"boss": "dragon", "b": 1.0, "a/b~c": 1.0}, []fault.Field{
			field("/data/a~1b~0c", fault.FieldUnknown, ""), field("/data/b", fault.FieldUnknown, ""),
		}},
		{"wrong types", "match_finished", data{"map": 5.0, "won": "yes", "seconds": "10"}, []fault.Field{
			field("/data/map", fault.FieldType, "must be a string"),
			field("/data/seconds", fault.FieldType, "must be an integer"),
			field("/data/won", fault.FieldType, "must be a boolean"),
		}},
		{"null is not left out", "match_finished", data{"map": "foundry", "won": nil, "seconds": nil}, []fault.Field{
			field("/data/seconds", fault.FieldType, "must be an integer"), field("/data/won", fault.FieldType, "must be a boolean"),
		}},
		{"fraction", "xp_gained", data{"amount": 1.5, "source": "match"}, []fault.Field{field("/data/amount", fault.FieldType, "must be an integer")}},
		{"amount zero", "xp_gained", data{"amount": 0.0, "source": "match"}, []fault.Field{field("/data/amount", fault.FieldRange, "1 or more")}},
		{"amount negative", "xp_gained", data{"amount": -5.0, "source": "match"}, []fault.Field{field("/data/amount", fault.FieldRange, "1 or more")}},
		{"quantity zero", "item_acquired", data{"item": "gold", "quantity": 0.0}, []fault.Field{field("/data/quantity", fault.FieldRange, "1 or more")}},
		{"score too high", "score_submitted", data{"board": "rating", "score": 9007199254740992.0}, []fault.Field{field("/data/score", fault.FieldRange, limits)}},
		{"score too low", "score_submitted", data{"board": "rating", "score": -1e300}, []fault.Field{field("/data/score", fault.FieldRange, limits)}},
		{"declared integer too high", "match_finished", data{"map": "m", "won": false, "seconds": 1e18}, []fault.Field{field("/data/seconds", fault.FieldRange, limits)}},
		{"no such board", "score_submitted", data{"board": "Rating", "score": 1.0}, []fault.Field{field("/data/board", fault.BoardUnknown, "")}},
		{"a board that is fed", "score_submitted", data{"board": "rating-best", "score": 1.0}, []fault.Field{
			field("/data/board", fault.BoardUnknown, "takes the scores submitted to rating"),
		}},
		{"no such boss", "boss_killed", data{"boss": ""}, []fault.Field{field("/data/boss", fault.BossUnknown, "")}},
		{"no such item", "item_acquired", data{"item": "sword", "quantity": 1.0}, []fault.Field{field("/data/item", fault.ItemUnknown, "")}},
		{"the family itself", "item_acquired", data{"item": "eco-*", "quantity": 1.0}, []fault.Field{field("/data/item", fault.ItemUnknown, "")}},
		{"family, not a name", "item_acquired", data{"item": "eco-☃", "quantity": 1.0}, []fault.Field{field("/data/item", fault.ItemUnknown, "")}},
		{"everything at once", "item_acquired", data{"item": "sword", "quantity": -1.0, "x": 1.0}, []fault.Field{
			field("/data/item", fault.ItemUnknown, ""), field("/data/quantity", fault.FieldRange, "1 or more"), field("/data/x", fault.FieldUnknown, ""),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := c.Check(event.Event{Type: test.typ, Data: test.data})
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, fault.EventInvalid)
			var e *fault.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, test.want, e.Fields)
		})
	}
}
