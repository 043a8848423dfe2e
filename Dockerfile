# The image of aci-sync, for who builds with Docker, Podman or BuildKit. make image makes the same without them, and from
# the same commit with the same Go the same binary; what both have in common is compared by tools/release/image_test.go.
#
#   docker build --build-arg COMMIT=$(git rev-parse HEAD) --tag aci-sync .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH COMMIT=unknown RELEASE=false
RUN CGO_ENABLED=0 GOOS=linux GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X github.com/haystacknetworks/aci-sync/internal/cli.commit=$COMMIT -X github.com/haystacknetworks/aci-sync/internal/cli.release=$RELEASE" -o /aci-sync ./cmd/aci-sync

FROM scratch
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="aci-sync"
LABEL org.opencontainers.image.description="Keeps the external EPGs of a Cisco ACI fabric in step with what runs in a Kubernetes cluster"
LABEL org.opencontainers.image.source="https://github.com/haystacknetworks/aci-sync"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.revision="$COMMIT"
COPY --from=build /aci-sync /aci-sync
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/aci-sync"]
