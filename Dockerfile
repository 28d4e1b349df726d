# syntax=docker/dockerfile:1
# tidegate and the five transforms as one small image: a static program, CA certificates, and nothing else.

# An exact tag, which its publisher can still move. `docker buildx imagetools inspect rust:1.95.0-bookworm` tells its digest:
# where you build for others, append it as `@sha256:…`.
FROM rust:1.95.0-bookworm AS build

# The image has gcc, make, perl and bash already, which librdkafka and OpenSSL are built with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/*
RUN rustup target add wasm32-unknown-unknown "$(uname -m)-unknown-linux-musl"

WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY wit wit
COPY guest-sdk guest-sdk
COPY transforms transforms
COPY xtask xtask
COPY tests tests
COPY host host

# Each transform by itself: cargo unifies the features of all packages that one command builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    for folder in transforms/*/; do \
        cargo build --locked --profile wasm --target wasm32-unknown-unknown --package "$(basename "$folder")" || exit 1; \
    done \
    && mkdir -p /out/modules \
    && cp target/wasm32-unknown-unknown/wasm/*.wasm /out/modules/

# CC is for librdkafka's configure script, which knows nothing of cargo's targets.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    target="$(uname -m)-unknown-linux-musl" \
    && CC=musl-gcc cargo build --locked --release --target "$target" --package tidegate \
    && cp "target/$target/release/tidegate" /out/tidegate \
    && strip /out/tidegate \
    && mkdir /out/cache

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tidegate /usr/bin/tidegate
COPY --from=build /out/modules /usr/share/tidegate/modules
COPY --from=build --chown=65532:65532 /out/cache /var/cache/tidegate
USER 65532:65532
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["--help"]
