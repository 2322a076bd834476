# Everything here needs Go and make; `lint` installs its own tools, pinned.
.DEFAULT_GOAL := help
.PHONY: help run test fuzz crash build stage image lint vuln secrets-scan sbom manifests what-if deploy outputs secrets bench

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZ    ?= 1m
IMAGE   ?= liveops:$(VERSION)
SOURCE  ?= https://git.example.com/liveops/liveops
ENV     ?= dev
GROUP   ?= rg-liveops-$(ENV)
TOOLS   := $(CURDIR)/bin/tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the whole system on embedded stand-ins and play the sample game through it
	go run ./cmd/liveops dev --demo

test: ## run every test with the race detector, on real MySQL and Redis too where they are on PATH
	go run ./local/servers -- go test -race -shuffle=on -timeout 20m ./...

fuzz: ## feed everything that reads what strangers send, for a minute each (FUZZ=10s)
	@grep -rE '^func Fuzz' --include='*_test.go' . | sed -E 's|^(.*)/[^/]+:func (Fuzz[A-Za-z]*).*|\1 \2|' | while read -r dir name; do \
		echo "$$dir $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) "$$dir" || exit 1; done

crash: ## kill the handler, MySQL and Redis and fail the broker for three minutes under load, then count (CRASH='--for 10m --seed 1')
	go run ./local/crash $(CRASH)

build: ## build the handler (Linux) and the liveops command into bin/
	CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags '$(LDFLAGS)' -o bin/handler ./handler
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/liveops ./cmd/liveops

stage: build ## assemble the Functions script root in build/wwwroot
	rm -rf build/wwwroot
	mkdir -p build/wwwroot
	cp -R functions/. host.json build/wwwroot/
	install -m 0755 bin/handler build/wwwroot/handler
	cp examples/arena/catalog.yaml build/wwwroot/catalog.yaml

image: bundle.sha256 ## build the image with Docker (IMAGE=registry/liveops:tag)
	docker build --pull --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--build-arg SOURCE=$(SOURCE) --build-arg BUNDLE_SHA256=$$(cut -d' ' -f1 bundle.sha256) -t $(IMAGE) .

bundle.sha256: ## record the checksum of the extension bundle that host.json names; commit it
	.ci/bundle-checksum > $@.new && mv $@.new $@

lint: $(TOOLS)/golangci-lint $(TOOLS)/staticcheck ## go mod tidy, go vet, staticcheck and golangci-lint
	go mod tidy -diff
	go vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/golangci-lint run

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

$(TOOLS)/staticcheck:
	GOBIN=$(TOOLS) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2

vuln: $(TOOLS)/govulncheck ## look for known vulnerabilities that this code calls (VULNDB=file:///… for a copy of the database)
	$(TOOLS)/govulncheck $(if $(VULNDB),-db $(VULNDB)) ./...

secrets-scan: $(TOOLS)/gitleaks ## look for credentials in the whole history
	$(TOOLS)/gitleaks git --no-banner --redact --config .gitleaks.toml .

sbom: $(TOOLS)/cyclonedx-gomod ## list what is linked into the handler, as CycloneDX, in build/sbom.json
	mkdir -p build
	$(TOOLS)/cyclonedx-gomod app -json -licenses -main handler -output build/sbom.json .

manifests: $(TOOLS)/kustomize ## write what each overlay deploys to build/manifests
	rm -rf build/manifests
	mkdir -p build/manifests
	for env in dev staging prod; do $(TOOLS)/kustomize build deploy/overlays/$$env > build/manifests/$$env.yaml || exit 1; done

what-if: ## show what a deployment to Azure would change (ENV=dev)
	az deployment group what-if -g $(GROUP) -f bicep/main.bicep -p bicep/$(ENV).parameters.json

deploy: ## deploy the infrastructure to Azure (ENV=dev)
	az deployment group create -g $(GROUP) -n main -f bicep/main.bicep -p bicep/$(ENV).parameters.json

outputs: ## write what the cluster must know of Azure to the overlay (ENV=dev)
	mkdir -p build
	az deployment group show -g $(GROUP) -n main --query properties.outputs.azureEnv.value -o tsv > build/azure.env
	mv build/azure.env deploy/overlays/$(ENV)/azure/azure.env

secrets: ## make the secrets that the key vaults lack (ENV=dev)
	bicep/secrets.sh deploy/overlays/$(ENV)/azure/azure.env

$(TOOLS)/govulncheck:
	GOBIN=$(TOOLS) go install golang.org/x/vuln/cmd/govulncheck@v1.1.4

$(TOOLS)/gitleaks:
	GOBIN=$(TOOLS) go install github.com/zricethezav/gitleaks/v8@v8.30.1

$(TOOLS)/cyclonedx-gomod:
	GOBIN=$(TOOLS) go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

$(TOOLS)/kubeconform:
	GOBIN=$(TOOLS) go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0

bin/tools/apiserver: $(wildcard local/apiserver/*)
	cd local/apiserver && CGO_ENABLED=0 go build -trimpath -o $(TOOLS)/apiserver .

$(TOOLS)/kustomize:
	GOBIN=$(TOOLS) go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1

bench: ## the speed of the gateway, publishing, the stages, the rankings and the close of a window, each beside its floor in the same run; what fairness and traces cost
	go test -run '^$$' -bench BenchmarkPublish -benchtime 3x ./core/bus/servicebus
	go test -run '^$$' -bench BenchmarkLadder -benchtime 1s ./core/fairness
	go run ./local/servers -- go test -p 1 -run '^$$' -bench 'BenchmarkFairness|BenchmarkRedisPerPlayer' -benchtime 3s ./core/pipeline ./core/fairness
	go run ./local/servers -- go test -run '^$$' -bench BenchmarkRanking -benchtime 100x -timeout 20m ./core/leaderboard
	go run ./local/servers -- go test -run '^$$' -bench 'BenchmarkAccept|BenchmarkReads' -benchtime 3s ./local/stack
	go run ./local/servers -- go test -run '^$$' -bench BenchmarkTracing -benchtime 1x ./local/stack
	go run ./local/servers --durable -- go test -p 1 -run '^$$' -bench 'BenchmarkProgression|BenchmarkRebuild' -benchtime 8s \
		-timeout 20m ./core/pipeline ./core/leaderboard
	go run ./local/servers --durable -- go test -run '^$$' -bench BenchmarkClose -benchtime 1x ./core/pipeline
