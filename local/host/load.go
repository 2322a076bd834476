package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// App is what the host runs: host.json, the functions beside it, and the settings both may name. It is only read after Load.
type App struct {
	Functions []Function // those that will run, by name

	handler      customHandler
	serviceBus   serviceBusOptions
	timeout      time.Duration // 0: none
	initialize   time.Duration
	maxBatchWait time.Duration
	renewal      time.Duration
	zone         *time.Location
	getenv       func(string) string
}

// Function is one folder with a function.json. Which fields are set depends on the trigger.
type Function struct {
	Name    string
	Trigger string // httpTrigger, serviceBusTrigger or timerTrigger
	Binding string // the trigger's binding name, its key in Data

	Route   string   // httpTrigger: with the prefix, without a leading slash
	Methods []string // httpTrigger: upper case; empty: all

	Queue    string // serviceBusTrigger
	Many     bool   // serviceBusTrigger: cardinality many
	DataType string // serviceBusTrigger: "", "string" or "binary"

	Schedule string // timerTrigger

	template     route
	output       *binding // the http output, if there is one
	autoComplete bool
	batch        int
	plan         schedule
	monitored    bool
	runOnStartup bool
}

// proxied says whether a request can be handed through: exactly one input, the trigger, and exactly one output, http
// (contract §1.2).
func (f *Function) proxied() bool { return f.Trigger == "httpTrigger" && f.output != nil }

type hostFile struct {
	Version              string          `json:"version"`
	FunctionTimeout      string          `json:"functionTimeout"`
	Functions            []string        `json:"functions"`
	CustomHandler        *customHandler  `json:"customHandler"`
	HTTPWorker           json.RawMessage `json:"httpWorker"`
	ConfigurationProfile string          `json:"configurationProfile"`
	ExtensionBundle      struct {
		ID      string `json:"id"`
		Version string `json:"version"`
	} `json:"extensionBundle"`
	Extensions struct {
		HTTP struct {
			RoutePrefix *string `json:"routePrefix"`
		} `json:"http"`
		ServiceBus serviceBusOptions `json:"serviceBus"`
	} `json:"extensions"`
}

type customHandler struct {
	Description *struct {
		DefaultExecutablePath          string   `json:"defaultExecutablePath"`
		WorkingDirectory               string   `json:"workingDirectory"`
		Arguments                      []string `json:"arguments"`
		DefaultWorkerPath              string   `json:"defaultWorkerPath"`
		WorkerArguments                []string `json:"workerArguments"`
		WorkerDirectory                string   `json:"workerDirectory"`
		UseStdErrorStreamForErrorsOnly *bool    `json:"useStdErrorStreamForErrorsOnly"`
		IsDisabled                     bool     `json:"isDisabled"`
	} `json:"description"`
	Type                        string          `json:"type"`
	EnableForwardingHTTPRequest bool            `json:"enableForwardingHttpRequest"`
	EnableProxyingHTTPRequest   bool            `json:"enableProxyingHttpRequest"`
	Port                        *int            `json:"port"`
	InitializationTimeout       string          `json:"initializationTimeout"`
	HTTP                        json.RawMessage `json:"http"`
}

// UnmarshalJSON refuses misspelt keys, which the host's configuration binder would silently ignore.
func (c *customHandler) UnmarshalJSON(text []byte) error {
	type plain customHandler
	return strictly(text, (*plain)(c))
}

type serviceBusOptions struct {
	PrefetchCount                 int             `json:"prefetchCount"`
	TransportType                 string          `json:"transportType"`
	WebProxy                      string          `json:"webProxy"`
	AutoCompleteMessages          *bool           `json:"autoCompleteMessages"`
	MaxAutoLockRenewalDuration    string          `json:"maxAutoLockRenewalDuration"`
	MaxConcurrentCalls            int             `json:"maxConcurrentCalls"`
	MaxConcurrentSessions         int             `json:"maxConcurrentSessions"`
	MaxConcurrentCallsPerSession  int             `json:"maxConcurrentCallsPerSession"`
	MaxMessageBatchSize           int             `json:"maxMessageBatchSize"`
	MinMessageBatchSize           int             `json:"minMessageBatchSize"`
	MaxBatchWaitTime              string          `json:"maxBatchWaitTime"`
	SessionIdleTimeout            string          `json:"sessionIdleTimeout"`
	EnableCrossEntityTransactions bool            `json:"enableCrossEntityTransactions"`
	ClientRetryOptions            json.RawMessage `json:"clientRetryOptions"`
}

// UnmarshalJSON refuses misspelt keys and the names of version 4.
func (o *serviceBusOptions) UnmarshalJSON(text []byte) error {
	type plain serviceBusOptions
	return strictly(text, (*plain)(o))
}

type functionFile struct {
	Bindings []binding `json:"bindings"`
	Disabled bool      `json:"disabled"`
}

type binding struct {
	Type      string `json:"type"`
	Direction string `json:"direction"`
	Name      string `json:"name"`
	DataType  string `json:"dataType"`

	Route     *string  `json:"route"`
	Methods   []string `json:"methods"`
	AuthLevel string   `json:"authLevel"`

	QueueName            string `json:"queueName"`
	TopicName            string `json:"topicName"`
	SubscriptionName     string `json:"subscriptionName"`
	Connection           string `json:"connection"`
	Cardinality          string `json:"cardinality"`
	IsSessionsEnabled    bool   `json:"isSessionsEnabled"`
	AutoCompleteMessages *bool  `json:"autoCompleteMessages"`
	MaxMessageBatchSize  int    `json:"maxMessageBatchSize"`

	Schedule     string `json:"schedule"`
	UseMonitor   *bool  `json:"useMonitor"`
	RunOnStartup bool   `json:"runOnStartup"`
}

func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// Load reads host.json and every function.json of a script root, with getenv for the settings they name and for overrides of
// host.json (AzureFunctionsJobHost__functions__0 and so on). It reports every problem at once. What the real host would
// skip with a log line, such as one function that cannot be indexed, is an error here.
func Load(root fs.FS, getenv func(string) string) (*App, error) {
	text, err := fs.ReadFile(root, "host.json")
	if err != nil {
		return nil, fmt.Errorf("read host.json: %w", err)
	}
	var file hostFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read host.json: %w", err)
	}
	if _, err := override(reflect.ValueOf(&file).Elem(), "AzureFunctionsJobHost", getenv); err != nil {
		return nil, err
	}
	app := &App{getenv: getenv}
	var problems []error
	if err := app.configure(&file); err != nil {
		problems = append(problems, err)
	}
	folders, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, fmt.Errorf("read the script root: %w", err)
	}
	prefix := "api"
	if p := file.Extensions.HTTP.RoutePrefix; p != nil {
		prefix = *p
	}
	var seen []string
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		name := folder.Name()
		text, err := fs.ReadFile(root, name+"/function.json")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		seen = append(seen, name)
		if len(file.Functions) > 0 && !slices.Contains(file.Functions, name) {
			continue
		}
		var f *Function
		if err == nil {
			f, err = app.function(name, prefix, text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("function %q: %w", name, err))
		} else if f != nil {
			app.Functions = append(app.Functions, *f)
		}
	}
	for _, name := range file.Functions {
		if !slices.Contains(seen, name) {
			problems = append(problems, fmt.Errorf("host.json: functions names %q, which is not there", name))
		}
	}
	if file.ExtensionBundle.Version == "" && slices.ContainsFunc(app.Functions, func(f Function) bool { return f.Queue != "" }) {
		problems = append(problems, errors.New("host.json: Service Bus needs an extensionBundle"))
	}
	return app, errors.Join(problems...)
}

func (app *App) configure(file *hostFile) error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("host.json: "+format, args...))
	}
	span := func(key, text string, otherwise time.Duration) time.Duration {
		if text == "" {
			return otherwise
		}
		d, err := parseTimeSpan(text)
		if err != nil {
			problem("%s: %w", key, err)
		}
		return d
	}
	if file.Version != "2.0" {
		problem("version is %q, only \"2.0\" is known", file.Version)
	}
	if file.FunctionTimeout != "-1" {
		app.timeout = span("functionTimeout", file.FunctionTimeout, 30*time.Minute)
	}
	switch {
	case file.HTTPWorker != nil:
		problem("httpWorker is the old form of customHandler and not simulated here")
	case file.CustomHandler == nil:
		problem("customHandler is missing")
	case file.CustomHandler.Description == nil:
		problem("customHandler: Missing worker Description.")
	default:
		app.handler = *file.CustomHandler
		if app.handler.Description.DefaultExecutablePath == "" {
			problem("customHandler: description.defaultExecutablePath is empty")
		}
		if kind := app.handler.Type; kind != "" && !strings.EqualFold(kind, "http") {
			problem("customHandler: type %q is refused, only http is known", kind)
		}
		if app.handler.HTTP != nil {
			problem("customHandler: http.routes cannot be used beside function.json files")
		}
		if port := app.handler.Port; port != nil && (*port < 1 || *port > 65535) {
			problem("customHandler: Unable to bind to port %d", *port)
		}
	}
	if file.ConfigurationProfile != "" && file.ConfigurationProfile != "default" {
		problem("configurationProfile %q is not simulated here", file.ConfigurationProfile)
	}
	app.initialize = span("customHandler.initializationTimeout", app.handler.InitializationTimeout, 30*time.Second)

	app.serviceBus = file.Extensions.ServiceBus
	options := &app.serviceBus
	if options.MaxConcurrentCalls == 0 {
		options.MaxConcurrentCalls = 16
	}
	if options.MaxMessageBatchSize == 0 {
		options.MaxMessageBatchSize = 1000
	}
	if options.MinMessageBatchSize == 0 {
		options.MinMessageBatchSize = 1
	}
	app.maxBatchWait = span("serviceBus.maxBatchWaitTime", options.MaxBatchWaitTime, 30*time.Second)
	app.renewal = span("serviceBus.maxAutoLockRenewalDuration", options.MaxAutoLockRenewalDuration, 5*time.Minute)
	if app.maxBatchWait > 150*time.Second {
		problem("serviceBus.maxBatchWaitTime is %s, at most 2:30 is allowed", app.maxBatchWait)
	}
	if options.MaxConcurrentCalls < 1 || options.MinMessageBatchSize < 1 || options.MinMessageBatchSize > options.MaxMessageBatchSize {
		problem("serviceBus: maxConcurrentCalls and minMessageBatchSize must be positive, minMessageBatchSize at most maxMessageBatchSize")
	}

	app.zone = time.UTC
	for _, name := range []string{"WEBSITE_TIME_ZONE", "TZ"} {
		if zone := app.getenv(name); zone != "" {
			location, err := time.LoadLocation(zone)
			if err != nil {
				problem("%s: %w", name, err)
				break
			}
			app.zone = location
			break
		}
	}
	return errors.Join(problems...)
}

var (
	functionName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,127}$`)
	bindingName  = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9]{0,127}|\$return)$`)
)

// function reads one function.json. It is nil for a disabled function.
func (app *App) function(name, prefix string, text []byte) (*Function, error) {
	if !functionName.MatchString(name) {
		return nil, errors.New("not a valid function name")
	}
	var file functionFile
	if err := strictly(text, &file); err != nil {
		return nil, fmt.Errorf("read function.json: %w", err)
	}
	if file.Disabled || strings.EqualFold(app.getenv("AzureWebJobs."+name+".Disabled"), "true") ||
		strings.EqualFold(app.getenv("AzureWebJobs__"+name+"__Disabled"), "true") {
		return nil, nil
	}
	f := &Function{Name: name}
	var trigger *binding
	names := map[string]bool{}
	for i := range file.Bindings {
		b := &file.Bindings[i]
		direction := "in"
		switch b.Type {
		case "httpTrigger", "serviceBusTrigger", "timerTrigger":
			if trigger != nil {
				return nil, errors.New("multiple trigger bindings defined")
			}
			trigger = b
		case "http":
			direction = "out"
			if f.output != nil {
				return nil, errors.New("more than one http output")
			}
			f.output = b
		case "serviceBus":
			return nil, errors.New("serviceBus output bindings are not simulated here: publish from the handler")
		default:
			return nil, fmt.Errorf("the binding type(s) '%s' are not registered", b.Type)
		}
		if b.Direction != direction {
			return nil, fmt.Errorf("binding %q of type %s has direction %q, not %q", b.Name, b.Type, b.Direction, direction)
		}
		if !bindingName.MatchString(b.Name) || names[b.Name] {
			return nil, fmt.Errorf("binding name %q is invalid or used twice", b.Name)
		}
		names[b.Name] = true
	}
	if trigger == nil {
		return nil, errors.New("no trigger binding specified: a function must have one")
	}
	f.Trigger, f.Binding = trigger.Type, trigger.Name
	if f.output != nil && f.Trigger != "httpTrigger" {
		return nil, errors.New("an http output without an httpTrigger")
	}
	var err error
	switch trigger.Type {
	case "httpTrigger":
		err = app.httpTrigger(f, trigger, prefix)
	case "serviceBusTrigger":
		err = app.queueTrigger(f, trigger)
	case "timerTrigger":
		err = app.timerTrigger(f, trigger)
	}
	return f, err
}

func (app *App) httpTrigger(f *Function, b *binding, prefix string) error {
	if b.AuthLevel != "anonymous" {
		return fmt.Errorf("authLevel %q (function, when left out) needs keys, which are not simulated here", b.AuthLevel)
	}
	template := f.Name
	if b.Route != nil && *b.Route != "" {
		template = *b.Route
	}
	template, err := expand(template, app.getenv)
	if err != nil {
		return err
	}
	if strings.HasPrefix(template, "/") {
		return fmt.Errorf("route %q begins with a slash", template)
	}
	f.Route = path.Join(prefix, template)
	if f.template, err = parseRoute(f.Route); err != nil {
		return err
	}
	if first, _, _ := strings.Cut(strings.ToLower(f.Route), "/"); first == "admin" || first == "runtime" {
		return fmt.Errorf("the route %q conflicts with one or more built in routes", f.Route)
	}
	for _, method := range b.Methods {
		f.Methods = append(f.Methods, strings.ToUpper(method))
	}
	return nil
}

func (app *App) queueTrigger(f *Function, b *binding) error {
	if b.TopicName != "" || b.SubscriptionName != "" {
		return errors.New("topics are not simulated here")
	}
	if b.IsSessionsEnabled {
		return errors.New("sessions are not simulated here")
	}
	var err error
	if f.Queue, err = expand(b.QueueName, app.getenv); err != nil {
		return err
	}
	if f.Queue == "" {
		return errors.New("queueName is missing")
	}
	switch b.Cardinality {
	case "", "one":
	case "many":
		f.Many = true
	default:
		return fmt.Errorf("cardinality %q is neither one nor many", b.Cardinality)
	}
	if f.DataType = b.DataType; f.DataType != "" && f.DataType != "string" && f.DataType != "binary" {
		return fmt.Errorf("dataType %q is neither string nor binary", b.DataType)
	}
	f.autoComplete = true
	for _, option := range []*bool{app.serviceBus.AutoCompleteMessages, b.AutoCompleteMessages} {
		if option != nil {
			f.autoComplete = *option
		}
	}
	f.batch = app.serviceBus.MaxMessageBatchSize
	if b.MaxMessageBatchSize > 0 {
		f.batch = b.MaxMessageBatchSize
	}
	return nil
}

func (app *App) timerTrigger(f *Function, b *binding) error {
	var err error
	if f.Schedule, err = expand(b.Schedule, app.getenv); err != nil {
		return err
	}
	if f.plan, err = parseSchedule(f.Schedule, app.zone); err != nil {
		return err
	}
	f.monitored = (b.UseMonitor == nil || *b.UseMonitor) && !f.plan.frequent()
	f.runOnStartup = b.RunOnStartup
	return nil
}
