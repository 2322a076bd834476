package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// assets is one environment, and what is the same in all of them.
type assets struct {
	files map[string]string // of the repository
	overlay
	monitoring overlay
	charts     []application
	argo       argo
	azure      azureEnv
	system     system
	image      image
	local      compose
}

// overlay is what an environment deploys, by kind.
type overlay struct {
	environment     string
	objects         []object
	deployments     []deployment
	jobs            []job
	services        []service
	accounts        []object
	configMaps      []object
	secretClasses   []secretClass
	policies        []networkPolicy
	autoscalers     []autoscaler
	scaledObjects   []scaledObject
	authentications []triggerAuthentication
	budgets         []budget
	monitors        []serviceMonitor
	ingresses       []ingress
}

type metadata struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
}

// object is what every object of Kubernetes has, and the data of a ConfigMap.
type object struct {
	APIVersion, Kind string
	Metadata         metadata
	Data             map[string]string

	rendered
}

// at names a field of the object in a report.
func (o object) at(field string) string {
	return o.file + ": " + o.name + ": " + field
}

func (o *object) comesFrom(r rendered) { o.rendered = r }

type deployment struct {
	object
	Spec struct {
		Replicas *int
		Selector selector
		Strategy struct {
			RollingUpdate struct{ MaxSurge *int }
		}
		Template podTemplate
	}
}

type job struct {
	object
	Spec struct{ Template podTemplate }
}

type podTemplate struct {
	Metadata metadata
	Spec     podSpec
}

type podSpec struct {
	ServiceAccountName            string
	AutomountServiceAccountToken  *bool
	TerminationGracePeriodSeconds int
	SecurityContext               struct {
		RunAsNonRoot          bool
		RunAsUser, RunAsGroup int
		SeccompProfile        struct{ Type string }
	}
	TopologySpreadConstraints []struct {
		LabelSelector  selector
		MatchLabelKeys []string
		TopologyKey    string
	}
	Containers     []container
	InitContainers []container
	Volumes        []volume
}

type container struct {
	Image                        string
	Command, Args                []string
	Ports                        []containerPort
	Env                          []struct{ Name, Value string }
	EnvFrom                      []struct{ ConfigMapRef struct{ Name string } }
	StartupProbe, ReadinessProbe *probe
	LivenessProbe                *probe
	Lifecycle                    struct {
		PreStop struct{ Sleep struct{ Seconds int } }
	}
	VolumeMounts    []volumeMount
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
		Privileged               bool
		Capabilities             struct{ Add, Drop []string }
	}
}

type containerPort struct {
	Name          string
	ContainerPort int
}

type probe struct {
	HTTPGet struct{ Path, Port string }
}

type volumeMount struct {
	Name, MountPath, SubPath string
	ReadOnly                 bool
}

type volume struct {
	Name string
	CSI  *struct {
		Driver           string
		VolumeAttributes struct{ SecretProviderClass string }
	}
	ConfigMap *struct{ Name string }
	EmptyDir  *struct{ SizeLimit string }
}

type service struct {
	object
	Spec struct {
		Selector              map[string]string
		ExternalTrafficPolicy string
		Ports                 []struct {
			Name       string
			Port       int
			TargetPort string
		}
	}
}

type secretClass struct {
	object
	Spec struct {
		Provider   string
		Parameters struct {
			UsePodIdentity, ClientID, KeyvaultName, TenantID, Objects string
		}
	}
}

// names lists the secrets, each of which becomes a file of that name.
func (c secretClass) names() ([]string, error) {
	var list struct{ Array []string }
	if err := decode(c.Spec.Parameters.Objects, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, text := range list.Array {
		var entry struct{ ObjectType, ObjectName, ObjectAlias string }
		if err := decode(text, &entry); err != nil {
			return nil, err
		}
		if entry.ObjectType != "secret" || entry.ObjectAlias != "" {
			return nil, fmt.Errorf("%s is not a secret by its own name", text)
		}
		names = append(names, entry.ObjectName)
	}
	return names, nil
}

type networkPolicy struct {
	object
	Spec struct {
		PodSelector selector
		PolicyTypes []string
		Ingress     []struct {
			From  []peer
			Ports []policyPort
		}
		Egress []struct {
			To    []peer
			Ports []policyPort
		}
	}
}

type peer struct {
	PodSelector, NamespaceSelector *selector
	IPBlock                        *struct {
		CIDR   string
		Except []string
	}
}

type policyPort struct {
	Protocol string
	Port     int
	EndPort  int
}

type scaleTarget struct{ Kind, Name string }

type autoscaler struct {
	object
	Spec struct {
		ScaleTargetRef           scaleTarget
		MinReplicas, MaxReplicas int
	}
}

type scaledObject struct {
	object
	Spec struct {
		ScaleTargetRef                   scaleTarget
		MinReplicaCount, MaxReplicaCount int
		Fallback                         struct{ Replicas int }
		Triggers                         []struct {
			Type              string
			Metadata          map[string]any
			AuthenticationRef struct{ Kind, Name string }
		}
	}
}

type triggerAuthentication struct {
	object
	Spec struct {
		PodIdentity struct{ Provider, IdentityID string }
	}
}

type budget struct {
	object
	Spec struct{ Selector *selector } // nil selects nothing, unlike an empty one
}

type serviceMonitor struct {
	object
	Spec struct {
		JobLabel  string
		Selector  selector
		Endpoints []struct {
			Port, Path  string
			HonorLabels bool
			Relabelings []relabeling
		}
	}
}

type relabeling struct{ TargetLabel, Replacement string }

type ingress struct {
	object
	Spec struct {
		IngressClassName string
		TLS              []struct {
			Hosts      []string
			SecretName string
		}
		Rules []struct {
			Host string
			HTTP struct {
				Paths []struct {
					Path, PathType string
					Backend        struct {
						Service struct {
							Name string
							Port struct{ Name string }
						}
					}
				}
			}
		}
	}
}

// selector selects by labels. An empty one selects everything.
type selector struct {
	MatchLabels      map[string]string
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	}
}

func (s selector) selects(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if labels[key] != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		in := has && slices.Contains(e.Values, value)
		if (e.Operator == "In" && !in) || (e.Operator == "NotIn" && in) || (e.Operator == "Exists" && !has) || (e.Operator == "DoesNotExist" && has) {
			return false
		}
	}
	return true
}

func (s selector) String() string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		words = append(words, key+"="+s.MatchLabels[key])
	}
	for _, e := range s.MatchExpressions {
		words = append(words, fmt.Sprintf("%s %s %v", e.Key, e.Operator, e.Values))
	}
	return strings.Join(words, ",")
}

// workload is what runs pods: a Deployment or a Job.
type workload struct {
	object
	pod podTemplate
}

func (o *overlay) workloads() []workload {
	var all []workload
	for _, d := range o.deployments {
		all = append(all, workload{d.object, d.Spec.Template})
	}
	for _, j := range o.jobs {
		all = append(all, workload{j.object, j.Spec.Template})
	}
	return all
}

// system is bicep/system.json.
type system struct {
	Namespace string
	Queues    map[string]queue
	Services  map[string]struct{ Sends, Receives []string }
	Ports     struct{ MySQL, Redis, AMQP, HTTPS, Host, Metrics, OTLP, Loki int }
	MySQL     struct{ MaxConnections int }
}

type queue struct {
	LockDuration                        string
	MaxDeliveryCount                    int
	DuplicateDetectionHistoryTimeWindow string
}

// services are the names of the services.
func (s system) services() []string { return slices.Sorted(maps.Keys(s.Services)) }

// azureEnv is an overlay's azure.env.
type azureEnv struct {
	file   string
	keys   []string
	values map[string]string
}

// compose is compose.yaml with what configures its broker.
type compose struct {
	Services map[string]struct {
		Image       string
		Ports       []string
		TmpFS       []string
		Entrypoint  []string
		Environment map[string]string
	}
	queues map[string]queue
}

// argo is what Argo CD is told.
type argo struct {
	projects     map[string]project
	applications []application
}

type project struct {
	object
	Spec struct {
		SourceRepos                                          []string
		Destinations                                         []destination
		ClusterResourceWhitelist, NamespaceResourceWhitelist []groupKind
		SyncWindows                                          []struct {
			Kind, Schedule, Duration string
			Applications             []string
		}
	}
}

type groupKind struct{ Group, Kind string }

type destination struct{ Name, Server, Namespace string }

type application struct {
	object
	Spec struct {
		Project string
		Source  struct {
			RepoURL, Path, Chart, TargetRevision string
			Helm                                 struct {
				ReleaseName  string
				ValuesObject map[string]any
			}
		}
		Destination destination
		SyncPolicy  struct {
			Automated *struct{ Prune, SelfHeal bool }
		}
	}
}

// value is what a chart is given at a path, nil for nothing.
func (c application) value(path ...string) any {
	var at any = c.Spec.Source.Helm.ValuesObject
	for _, key := range path {
		object, _ := at.(map[string]any)
		at = object[key]
	}
	return at
}

// assemble reads everything that the rules compare.
func assemble(files map[string]string, environment string, objects []rendered) (*assets, error) {
	a := &assets{files: files}
	a.environment = environment
	for _, one := range objects {
		var err error
		switch one.part {
		case "monitoring":
			err = a.monitoring.take(one)
		case "charts":
			err = add(one, &a.charts)
		default:
			err = a.take(one)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal([]byte(files["bicep/system.json"]), &a.system); err != nil {
		return nil, fmt.Errorf("bicep/system.json: %w", err)
	}
	if err := decode(files["compose.yaml"], &a.local); err != nil {
		return nil, fmt.Errorf("compose.yaml: %w", err)
	}
	var err error
	if a.local.queues, err = emulatorQueues(files["deploy/compose/servicebus.json"]); err != nil {
		return nil, fmt.Errorf("deploy/compose/servicebus.json: %w", err)
	}
	if a.image, err = readDockerfile(files["Dockerfile"]); err != nil {
		return nil, fmt.Errorf("Dockerfile: %w", err)
	}
	if a.argo, err = readArgo(files); err != nil {
		return nil, err
	}
	a.azure, err = readAzureEnv(files, environment)
	return a, err
}

// take adds an object of the overlay to its kind.
func (o *overlay) take(one rendered) error {
	if err := add(one, &o.objects); err != nil {
		return fmt.Errorf("%s: %w", one.file, err)
	}
	var err error
	head := o.objects[len(o.objects)-1]
	switch head.Kind {
	case "Deployment":
		err = add(one, &o.deployments)
	case "Job":
		err = add(one, &o.jobs)
	case "Service":
		err = add(one, &o.services)
	case "ServiceAccount":
		err = add(one, &o.accounts)
	case "ConfigMap":
		err = add(one, &o.configMaps)
	case "SecretProviderClass":
		err = add(one, &o.secretClasses)
	case "NetworkPolicy":
		err = add(one, &o.policies)
	case "HorizontalPodAutoscaler":
		err = add(one, &o.autoscalers)
	case "ScaledObject":
		err = add(one, &o.scaledObjects)
	case "TriggerAuthentication":
		err = add(one, &o.authentications)
	case "PodDisruptionBudget":
		err = add(one, &o.budgets)
	case "ServiceMonitor":
		err = add(one, &o.monitors)
	case "Ingress":
		err = add(one, &o.ingresses)
	case "PrometheusRule", "Secret": // what is in them is tested where they are
	default:
		err = fmt.Errorf("no rule knows this kind: teach overlay.take")
	}
	if err != nil {
		return fmt.Errorf("%s %w", head.at("this object"), err)
	}
	return nil
}

// add decodes an object as one of its kind.
func add[T any, P interface {
	*T
	comesFrom(rendered)
}](one rendered, to *[]T) error {
	var decoded T
	err := json.Unmarshal(one.json, &decoded)
	P(&decoded).comesFrom(one)
	*to = append(*to, decoded)
	return err
}

func emulatorQueues(text string) (map[string]queue, error) {
	var config struct {
		UserConfig struct {
			Namespaces []struct {
				Queues []struct {
					Name       string
					Properties queue
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return nil, err
	}
	queues := map[string]queue{}
	for _, namespace := range config.UserConfig.Namespaces {
		for _, q := range namespace.Queues {
			queues[q.Name] = q.Properties
		}
	}
	return queues, nil
}

func readAzureEnv(files map[string]string, environment string) (azureEnv, error) {
	env := azureEnv{file: "deploy/overlays/" + environment + "/azure/azure.env", values: map[string]string{}}
	for line := range strings.Lines(files[env.file]) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			return env, fmt.Errorf("%s: %q is not KEY=VALUE", env.file, line)
		}
		env.keys = append(env.keys, key)
		env.values[key] = value
	}
	return env, nil
}

func readArgo(files map[string]string) (argo, error) {
	a := argo{projects: map[string]project{}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasPrefix(name, "deploy/argocd/") {
			continue
		}
		var head object
		err := decode(files[name], &head)
		if err != nil {
			return a, fmt.Errorf("%s: %w", name, err)
		}
		head.file, head.name = name, head.Kind+"/"+head.Metadata.Name
		switch head.Kind {
		case "AppProject":
			var p project
			err = decode(files[name], &p)
			p.comesFrom(head.rendered)
			a.projects[p.Metadata.Name] = p
		case "Application":
			var app application
			err = decode(files[name], &app)
			app.comesFrom(head.rendered)
			a.applications = append(a.applications, app)
		default:
			err = fmt.Errorf("no rule knows the kind %q", head.Kind)
		}
		if err != nil {
			return a, fmt.Errorf("%s: %w", name, err)
		}
	}
	return a, nil
}
