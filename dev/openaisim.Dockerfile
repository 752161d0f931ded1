# The simulated provider's image, to try the operator in a cluster without a provider's account.
#
#   docker build --build-arg VERSION=v0.1.0 -f dev/openaisim.Dockerfile -t registry.example.com/openai-sim:v0.1.0 .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
WORKDIR /src

# The modules change less often than the code: they have a layer of their own.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY internal/ internal/
COPY dev/ dev/
# What --version prints. Declared late: another version reuses the layers above.
ARG VERSION=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags=grpcnotrace -trimpath \
    -ldflags="-s -w -X github.com/eco2-team/scan-operator/internal/cli.version=$VERSION" -o /out/ ./dev/cmd/openai-sim

FROM gcr.io/distroless/static:nonroot
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/openai-sim"]
