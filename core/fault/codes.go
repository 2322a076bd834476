package fault

import "slices"

// Code names one thing that can go wrong. The catalogue below is closed: docs/errors.md lists the same codes, and a test
// holds the two together. Codes are also the values of `reason` labels in metrics.
type Code string

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return string(c) }

// The catalogue.
const (
	Unexpected Code = "internal-error"

	// Reading a request.
	MalformedJSON      Code = "malformed-json"
	DuplicateKey       Code = "duplicate-key"
	MalformedRequest   Code = "malformed-request"
	MalformedCursor    Code = "malformed-cursor"
	RequestInvalid     Code = "request-invalid"
	BodyTooLarge       Code = "body-too-large"
	TooManyEvents      Code = "too-many-events"
	EventTooLarge      Code = "event-too-large"
	UnsupportedMedia   Code = "unsupported-media-type"
	UnsupportedCoding  Code = "unsupported-content-encoding"
	MethodNotAllowed   Code = "method-not-allowed"
	RouteNotFound      Code = "route-not-found"
	IdempotencyMissing Code = "idempotency-key-missing"
	IdempotencyInvalid Code = "idempotency-key-invalid"

	// Knowing who asks.
	HeaderMissing     Code = "signature-header-missing"
	HeaderMalformed   Code = "signature-header-malformed"
	KeyUnknown        Code = "key-unknown"
	KeyRevoked        Code = "key-revoked"
	TimestampOutside  Code = "timestamp-out-of-window"
	SignatureMismatch Code = "signature-mismatch"
	NonceReplayed     Code = "nonce-replayed"
	OutOfScope        Code = "key-out-of-scope"
	SessionExpired    Code = "session-expired"
	SessionRevoked    Code = "session-revoked"

	// The gate.
	IdempotencyInFlight Code = "idempotency-in-flight"
	IdempotencyReused   Code = "idempotency-key-reused"
	PlayerBlocked       Code = "player-blocked"
	RateExceeded        Code = "rate-limited"

	// Events.
	EventInvalid   Code = "event-invalid"
	FieldMissing   Code = "field-missing"
	FieldUnknown   Code = "field-unknown"
	FieldType      Code = "field-type"
	FieldRange     Code = "field-out-of-range"
	TooDeep        Code = "too-deep"
	TypeUnknown    Code = "event-type-unknown"
	BoardUnknown   Code = "board-unknown"
	BossUnknown    Code = "boss-unknown"
	ItemUnknown    Code = "item-unknown"
	InFuture       Code = "occurred-at-in-future"
	NothingTaken   Code = "no-event-accepted"
	MessageInvalid Code = "message-invalid"

	// Behind the queue: why an accepted event had no effect, or less than it asked for.
	ImpossibleValue Code = "impossible-value"
	MinimumInterval Code = "minimum-interval"
	ScoreVelocity   Code = "score-velocity"
	OwnHistory      Code = "own-history"
	Population      Code = "population"
	RegularTiming   Code = "regular-timing"
	LevelTooLow     Code = "level-too-low"
	StackFull       Code = "stack-full"
	BalanceLimit    Code = "balance-limit"
	CoolingDown     Code = "cooling-down"
	OnceOnly        Code = "once-only"
	DailyCap        Code = "daily-cap"
	NoFreeSlot      Code = "no-free-slot"
	Mailed          Code = "sent-to-mailbox"
	Converted       Code = "converted"
	WindowClosed    Code = "window-closed"
	DeliveriesSpent Code = "deliveries-spent"
	NotReleasable   Code = "rejected-not-releasable"
	LockLost        Code = "lock-lost"
	MessageNotFound Code = "message-not-found"

	// Reads.
	PlayerNotFound   Code = "player-not-found"
	BoardNotFound    Code = "board-not-found"
	WindowNotFound   Code = "window-not-found"
	NotRanked        Code = "not-ranked"
	ReceiptNotFound  Code = "receipt-not-found"
	RejectedNotFound Code = "rejected-not-found"
	DecisionNotFound Code = "decision-not-found"
	CaseNotFound     Code = "case-not-found"
	MailNotFound     Code = "mail-not-found"
	MailExpired      Code = "mail-expired"
	EventNotFound    Code = "event-not-found"
	NotReversible    Code = "not-reversible"
	MailWithdrawn    Code = "mail-withdrawn"
	MailUnfit        Code = "mail-does-not-fit"
	ErasureNotFound  Code = "erasure-not-found"
	CursorExpired    Code = "cursor-expired"
	NotArchived      Code = "window-not-archived"
	ArchivePurged    Code = "archive-purged"

	// What operators do about windows.
	WindowNotRunning Code = "window-not-running"
	WindowEndless    Code = "window-endless"

	// Receipts that prove nothing.
	ReceiptMalformed  Code = "receipt-malformed"
	ReceiptTooLarge   Code = "receipt-too-large"
	ReceiptAlgorithm  Code = "receipt-algorithm-refused"
	ReceiptKeyUnknown Code = "receipt-key-unknown"
	ReceiptForged     Code = "receipt-signature-mismatch"

	// Dependencies.
	BusUnavailable      Code = "queue-unavailable"
	RedisUnavailable    Code = "redis-unavailable"
	DatabaseUnavailable Code = "database-unavailable"
	Rebuilding          Code = "ranking-rebuilding"
	RankingBusy         Code = "ranking-busy"
	Starting            Code = "starting"
	ShuttingDown        Code = "shutting-down"
	DeadlinePassed      Code = "deadline-passed"
)

type meaning struct {
	kind  Kind
	title string
}

var catalogue = map[Code]meaning{
	Unexpected: {Internal, "Something unexpected went wrong here"},

	MalformedJSON:      {Malformed, "The body is not valid JSON"},
	DuplicateKey:       {Malformed, "An object names the same member twice"},
	MalformedRequest:   {Malformed, "The request cannot be read"},
	MalformedCursor:    {Malformed, "The cursor was not issued here"},
	RequestInvalid:     {Invalid, "The request is not valid"},
	BodyTooLarge:       {TooLarge, "The body is too large"},
	TooManyEvents:      {TooLarge, "The batch holds too many events"},
	EventTooLarge:      {TooLarge, "The event is too large"},
	UnsupportedMedia:   {Unsupported, "The body must be application/json"},
	UnsupportedCoding:  {Unsupported, "The body must not be compressed"},
	MethodNotAllowed:   {NotAllowed, "The method is not allowed here"},
	RouteNotFound:      {NotFound, "There is nothing at this address"},
	IdempotencyMissing: {Malformed, "The Idempotency-Key header is missing"},
	IdempotencyInvalid: {Malformed, "The Idempotency-Key header is not usable"},

	HeaderMissing:     {Unauthenticated, "A signature header is missing"},
	HeaderMalformed:   {Unauthenticated, "A signature header cannot be read"},
	KeyUnknown:        {Unauthenticated, "The key id is not known"},
	KeyRevoked:        {Unauthenticated, "The key is revoked"},
	TimestampOutside:  {Unauthenticated, "The timestamp is too far from the server's clock"},
	SignatureMismatch: {Unauthenticated, "The signature does not match the request"},
	NonceReplayed:     {Unauthenticated, "The nonce was used before"},
	OutOfScope:        {Forbidden, "The key may not do this"},
	SessionExpired:    {Unauthenticated, "The session key has expired"},
	SessionRevoked:    {Unauthenticated, "The player's session keys were revoked"},

	IdempotencyInFlight: {Conflict, "A request with this idempotency key is under way"},
	IdempotencyReused:   {Invalid, "The idempotency key was used for another request"},
	PlayerBlocked:       {Forbidden, "The player is blocked"},
	RateExceeded:        {RateLimited, "Too many events in too short a time"},

	EventInvalid:   {Invalid, "The event is not valid"},
	FieldMissing:   {Invalid, "A required field is missing"},
	FieldUnknown:   {Invalid, "A field is not known"},
	FieldType:      {Invalid, "A field has the wrong type or form"},
	FieldRange:     {Invalid, "A field is out of range"},
	TooDeep:        {Invalid, "The JSON is nested too deeply"},
	TypeUnknown:    {Invalid, "The event type is not in the catalog"},
	BoardUnknown:   {Invalid, "The board is not in the catalog"},
	BossUnknown:    {Invalid, "The boss is not in the catalog"},
	ItemUnknown:    {Invalid, "The item is not in the catalog"},
	InFuture:       {Invalid, "The event says it happens in the future"},
	NothingTaken:   {Invalid, "No event of the batch was accepted"},
	MessageInvalid: {Invalid, "The queue message is not an accepted event"},

	ImpossibleValue: {Invalid, "A value is outside what the game allows"},
	MinimumInterval: {RateLimited, "The event came too soon after the one before"},
	ScoreVelocity:   {Invalid, "Points came faster than the game allows"},
	OwnHistory:      {Invalid, "The score is far above the player's own"},
	Population:      {Invalid, "The score is far from everybody's"},
	RegularTiming:   {Invalid, "The events come as regularly as a machine's"},
	LevelTooLow:     {Invalid, "The player's level is too low for this"},
	StackFull:       {Invalid, "The item's stack is full"},
	BalanceLimit:    {Invalid, "The balance cannot go further that way"},
	CoolingDown:     {RateLimited, "It came too soon after the one before to be worth anything"},
	OnceOnly:        {Conflict, "It is worth something only once in this time"},
	DailyCap:        {RateLimited, "The day's XP from this source is used up"},
	NoFreeSlot:      {Invalid, "The player holds as many different items of the family as he may"},
	Mailed:          {Conflict, "It waits in the mailbox"},
	Converted:       {Conflict, "It did not fit and became something else"},
	WindowClosed:    {Conflict, "The window the event belongs to is closed"},
	DeliveriesSpent: {Unavailable, "The message was delivered too often without success"},
	NotReleasable:   {Invalid, "The rejected message cannot be released"},
	LockLost:        {Conflict, "The message's lock was lost"},
	MessageNotFound: {NotFound, "The queue has no such message"},

	PlayerNotFound:   {NotFound, "The player has no progress yet"},
	BoardNotFound:    {NotFound, "There is no such board"},
	WindowNotFound:   {NotFound, "The board has no such window"},
	NotRanked:        {NotFound, "The player is not ranked here"},
	ReceiptNotFound:  {NotFound, "There is no receipt for this event"},
	RejectedNotFound: {NotFound, "There is no such rejected event"},
	DecisionNotFound: {NotFound, "There is no such decision"},
	CaseNotFound:     {NotFound, "There is no such case"},
	MailNotFound:     {NotFound, "The player has no such mail"},
	MailExpired:      {Gone, "The mail was not claimed in time"},
	EventNotFound:    {NotFound, "No such event has had an effect"},
	NotReversible:    {Invalid, "The event cannot be reversed"},
	MailWithdrawn:    {Gone, "The mail was withdrawn"},
	MailUnfit:        {Conflict, "There is no room for what the mail brings"},
	ErasureNotFound:  {NotFound, "No erasure of the player is under way"},
	CursorExpired:    {Gone, "The cursor's window has closed"},
	NotArchived:      {Conflict, "The window is not archived yet"},
	ArchivePurged:    {Gone, "The archive keeps only its hall of fame"},

	WindowNotRunning: {Conflict, "The window has not begun, or has ended"},
	WindowEndless:    {Invalid, "The window has no end that could be moved"},

	ReceiptMalformed:  {Invalid, "The receipt is not a token of the form issued here"},
	ReceiptTooLarge:   {Invalid, "The receipt is larger than any issued here"},
	ReceiptAlgorithm:  {Invalid, "The receipt is not signed the way its key signs"},
	ReceiptKeyUnknown: {Invalid, "The receipt names a key that is not known"},
	ReceiptForged:     {Invalid, "The receipt's signature does not match what it says"},

	BusUnavailable:      {Unavailable, "The queue cannot be reached"},
	RedisUnavailable:    {Unavailable, "Redis cannot be reached"},
	DatabaseUnavailable: {Unavailable, "The database cannot be reached"},
	Rebuilding:          {Unavailable, "The ranking is being rebuilt"},
	RankingBusy:         {Unavailable, "Too many reads go far down the rankings"},
	Starting:            {Unavailable, "The service is starting"},
	ShuttingDown:        {Unavailable, "The service is shutting down"},
	DeadlinePassed:      {Unavailable, "The request could not be done in time"},
}

// Kind is what the code amounts to.
func (c Code) Kind() Kind { return catalogue[c].kind }

// Title is one short sentence, the same for every occurrence.
func (c Code) Title() string { return catalogue[c].title }

// Outages are the codes of what operators are to mend: a dependency that does not answer, and what nobody foresaw.
func Outages() []Code {
	return []Code{DatabaseUnavailable, Unexpected, BusUnavailable, RedisUnavailable}
}

// Codes lists the catalogue in order of name.
func Codes() []Code {
	codes := make([]Code, 0, len(catalogue))
	for c := range catalogue {
		codes = append(codes, c)
	}
	slices.Sort(codes)
	return codes
}

// Codes lists the codes of a kind in order of name.
func (k Kind) Codes() []Code {
	return slices.DeleteFunc(Codes(), func(c Code) bool { return c.Kind() != k })
}
