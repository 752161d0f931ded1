# The product's image: /manager, /api and /worker. The Deployments choose by command.
#
#   docker build --build-arg VERSION=v0.1.0 -t registry.example.com/scan-operator:v0.1.0 .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src

# The modules change less often than the code: they have a layer of their own.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY api/ api/
COPY cmd/ cmd/
COPY controllers/ controllers/
COPY internal/ internal/
COPY pkg/ pkg/
# What --version prints. Declared late: another version reuses the layers above.
ARG VERSION=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags=grpcnotrace -trimpath \
    -ldflags="-s -w -X github.com/eco2-team/scan-operator/internal/cli.version=$VERSION" -o /out/ ./cmd/manager ./cmd/api ./cmd/worker

FROM gcr.io/distroless/static:nonroot
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/manager"]
