# The one image of the system: the Azure Functions host, the extension bundle that host.json names, and the script root with
# the handler. Which functions a container runs, the environment says (AzureFunctionsJobHost__functions__N). Built by `make image`.

# A tag is the host's version and the revision of the image: https://mcr.microsoft.com/v2/azure-functions/base/tags/list
ARG HOST_IMAGE=mcr.microsoft.com/azure-functions/base:4.1052.200-1
ARG GO_IMAGE=golang:1.26.8-alpine
ARG VERSION=dev

FROM ${GO_IMAGE} AS wwwroot
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION
# 40 MB is the budget of the binary: a dependency that breaks it is noticed here.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /wwwroot/handler ./handler \
 && if [ "$(stat -c %s /wwwroot/handler)" -gt 40000000 ]; then echo "the handler is larger than 40 MB" >&2; exit 1; fi
RUN cp -R functions/. host.json examples/arena/catalog.yaml /wwwroot/ && chmod -R u=rwX,go=rX /wwwroot

# Without the bundle in its image, every pod downloads it when it starts. It is left whole: its parts name each other.
FROM ${GO_IMAGE} AS bundle
WORKDIR /bundle
COPY host.json .
ARG BUNDLE_SOURCE=https://cdn.functions.azure.com/public/ExtensionBundles
ARG BUNDLE_SHA256
RUN if [ -z "${BUNDLE_SHA256}" ]; then echo "BUNDLE_SHA256 is not set: make bundle.sha256 finds it" >&2; exit 1; fi \
 && id=Microsoft.Azure.Functions.ExtensionBundle \
 && version=$(sed -n 's/.*"version": "\[\([0-9.]*\)\]".*/\1/p' host.json) \
 && if [ -z "${version}" ]; then echo "host.json pins no version of the extension bundle" >&2; exit 1; fi \
 && wget -q -O bundle.zip "${BUNDLE_SOURCE}/${id}/${version}/${id}.${version}_any-any.zip" \
 && echo "${BUNDLE_SHA256}  bundle.zip" | sha256sum -c - \
 && mkdir -p "/FuncExtensionBundles/${id}/${version}" \
 && unzip -q bundle.zip -d "/FuncExtensionBundles/${id}/${version}" \
 && chmod -R u=rwX,go=rX /FuncExtensionBundles

FROM ${HOST_IMAGE}
COPY --from=bundle /FuncExtensionBundles/ /FuncExtensionBundles/
COPY --from=wwwroot /wwwroot/ /home/site/wwwroot/

# The root file system may be read-only. Writable must be /tmp, /home/data (what the host downloads and caches) and
# /azure-functions-host/Secrets (the host's own keys, of this container only).
ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    HOME=/home \
    FUNCTIONS_WORKER_RUNTIME=custom \
    ASPNETCORE_URLS=http://+:8080 \
    DOTNET_RUNNING_IN_CONTAINER=true \
    DOTNET_EnableDiagnostics=0 \
    AzureWebJobsSecretStorageType=files \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    AzureFunctionsJobHost__logging__fileLoggingMode=never \
    AzureFunctionsJobHost__fileWatchingEnabled=false
USER 10001:10001
EXPOSE 8080 9464
# The host itself, no shell around it: it is process 1, so that SIGTERM reaches it and it drains.
CMD ["/azure-functions-host/Microsoft.Azure.WebJobs.Script.WebHost"]

ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title=liveops \
      org.opencontainers.image.description="LiveOps backend: gateway, fairness, progression and leaderboard as Azure Functions custom handlers" \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.source=${SOURCE}
