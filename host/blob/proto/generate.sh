#!/bin/sh
# Generates the Go beside the .proto file. Needs protoc (Debian:
# protobuf-compiler); the Go generators are tools pinned in go.mod.
#
# It runs from the root of the repository, so that the file is called
# host/blob/proto/blob.proto: protobuf's registry is global to a process.
set -eu
cd "$(dirname "$0")/../../.."
command -v protoc >/dev/null || {
	echo "generate.sh: protoc not found: install protobuf-compiler" >&2
	exit 1
}
protoc -I . \
	--plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" \
	--plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	host/blob/proto/blob.proto
