# syntax=docker/dockerfile:1
# One static binary in an image that holds nothing else. Build for other machines with
#   docker buildx build --platform linux/amd64,linux/arm64 .
# The build runs on the builder's own platform and crosses over, because an emulated Rust build takes many times as long.

FROM --platform=$BUILDPLATFORM rust:1.95-slim-bookworm AS build
ARG TARGETARCH
ENV CARGO_TERM_COLOR=never
WORKDIR /src
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# SQLite and ring are C and assembly: a C compiler for the target, with a static C library.
# hadolint ignore=DL3008
RUN case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-musl ;; \
      arm64) target=aarch64-unknown-linux-musl ;; \
      *) echo "no target for '$TARGETARCH'" >&2; exit 1 ;; \
    esac && \
    echo "$target" > /target && \
    rustup target add "$target" && \
    apt-get update && \
    apt-get install -y --no-install-recommends clang llvm make musl-dev && \
    if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
      dpkg --add-architecture "$TARGETARCH" && apt-get update && \
      apt-get install -y --no-install-recommends "musl-dev:$TARGETARCH"; \
    fi && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -m 0750 /data
COPY Cargo.toml Cargo.lock ./
COPY src src
# The manifest names them; cargo wants to see them.
COPY benches benches
COPY tests tests
COPY examples examples
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=postern-target-$TARGETARCH \
    target=$(cat /target) && \
    arch=${target%%-*} && \
    key=$(echo "$target" | tr 'a-z-' 'A-Z_') && \
    export "CC_${target//-/_}=clang" "AR_${target//-/_}=llvm-ar" \
      "CFLAGS_${target//-/_}=--target=$target -isystem /usr/include/$arch-linux-musl" \
      "CARGO_TARGET_${key}_LINKER=rust-lld" "CARGO_TARGET_${key}_RUSTFLAGS=-C target-feature=+crt-static -C link-self-contained=yes" && \
    cargo build --release --locked --bin postern --target "$target" && \
    install -m 0755 "target/$target/release/postern" /postern

# No shell, no package manager; it brings root certificates, a passwd entry for 65532 and a /tmp.
FROM gcr.io/distroless/static-debian12:nonroot
LABEL org.opencontainers.image.title="postern" \
      org.opencontainers.image.description="An event sidecar: proves S3 change notifications genuine, keeps them on disk and delivers them, signed, to the app beside it" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /postern /usr/local/bin/postern
# A fresh volume takes the owner of the folder that it covers. Everything else can be read-only.
COPY --from=build --chown=65532:65532 /data /var/lib/postern
VOLUME /var/lib/postern
USER 65532:65532
EXPOSE 8443 9465
# No HEALTHCHECK: there is no shell and no client in the image to make one with. Ask http://ADDRESS:9465/live and /ready from outside.
ENTRYPOINT ["/usr/local/bin/postern"]
CMD ["serve"]
