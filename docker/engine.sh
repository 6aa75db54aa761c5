#!/usr/bin/env bash
# Runs COMMAND with a Docker engine of its own, where none is installed: Debian's, in namespaces that end with COMMAND.
# usage: docker/engine.sh COMMAND [ARG …]
#
# Needs root with mount rights, on a Debian-like system. No registry is asked: the base image is a stand-in for the
# Dockerfile's, the same Debian release with its Python 3.11, made from Debian's packages. COMMAND gets `docker` on its
# PATH, what `docker build` needs in AVS_BUILD_FLAGS, and in AVS_SCRATCH an empty folder that containers can mount.
# Exit status 77: an engine can't be started here, for the reason printed.
set -euo pipefail

kept=${AVS_ENGINE:-${XDG_CACHE_HOME:-$HOME/.cache}/avs-engine} # the engine, its images and its build cache
root=$kept/root
kit=$(realpath "$(dirname "$0")/..")
certificates=/etc/ssl/certs/ca-certificates.crt # the host's, with those of a company's proxy

cannot() {
    echo "docker/engine.sh: no engine can be started here: $*" >&2
    exit 77
}
[ "$(uname -s)" = Linux ] || cannot "this is no Linux"
[ "$(id -u)" = 0 ] || cannot "root is needed"
unshare --mount --pid --fork true 2>/dev/null || cannot "new namespaces are not allowed"
unshare --mount mount -t tmpfs tmpfs /mnt 2>/dev/null || cannot "mounting is not allowed"
command -v apt-get >/dev/null || cannot "its packages come with apt-get, which is missing"

debian() { # RELEASE TARGET PACKAGES [OPTION …]: a small Debian system
    mmdebstrap --quiet --variant=minbase --include="$3" "${@:4}" "$1" "$2" >"$kept/debian.log" 2>&1 ||
        cannot "Debian's packages can't be had: $(tail -n 1 "$kept/debian.log")"
}

mkdir -p "$kept"
exec 8>"$kept/lock"
flock --timeout 1200 8 || cannot "another one has been running for 20 minutes"
if ! command -v mmdebstrap >/dev/null; then
    { apt-get update && apt-get install --yes --no-install-recommends mmdebstrap; } >"$kept/apt.log" 2>&1 ||
        cannot "mmdebstrap can't be installed: $(tail -n 1 "$kept/apt.log")"
fi
if [ ! -e "$kept/base.tar" ]; then
    debian bookworm "$kept/partial.tar" python3,python3-venv,ca-certificates \
        --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
        --customize-hook="cp $certificates \"\$1$certificates\""
    mv "$kept/partial.tar" "$kept/base.tar"
fi
if [ ! -e "$root" ]; then
    rm -rf "$kept/partial"
    debian trixie "$kept/partial" docker.io,docker-cli,docker-buildx,docker-compose,ca-certificates
    mv "$kept/partial" "$root"
fi
torch=$(grep ^torch== "$kit/requirements.lock")
wheels=$kept/$torch # the build of PyTorch that pip would take here
if [ ! -e "$wheels" ]; then
    python=$kit/.venv/bin/python
    [ -x "$python" ] || python=python3
    "$python" -m pip download --quiet --no-deps --dest "$kept/partial-wheels" "$torch" >"$kept/pip.log" 2>&1 ||
        cannot "PyTorch's wheel can't be had: $(tail -n 1 "$kept/pip.log")"
    mv "$kept/partial-wheels" "$wheels"
fi

scratch=$(mktemp -d)
unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    mount --bind "$0" "$0" && cd "$0"
    mount -t proc proc proc && mount --rbind /dev dev && mount --rbind /sys sys
    for folder in run tmp; do mount -t tmpfs tmpfs $folder; done
    for seen in "$@"; do mkdir -p ".$seen" && mount --bind "$seen" ".$seen"; done
    cp /etc/resolv.conf etc/resolv.conf
    mkdir -p old && pivot_root . old && umount -l /old
    exec dockerd --data-root /data --iptables=false --ip6tables=false --bridge=none --ip-forward=false
' "$root" "$kit" "$wheels" "$scratch" >"$kept/dockerd.log" 2>&1 &
engine=$!
trap 'pkill -P "$engine" || true; wait "$engine" 2>/dev/null || true; rm -rf "$scratch"' EXIT

mkdir -p "$kept/bin"
cat >"$kept/bin/docker" <<WRAPPER
#!/bin/sh
exec nsenter --mount --target "\$(pgrep -P $engine)" sh -c 'cd "\$0" && exec docker "\$@"' "\$PWD" "\$@"
WRAPPER
chmod +x "$kept/bin/docker"
export PATH=$kept/bin:$PATH AVS_SCRATCH=$scratch
for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || cannot "dockerd ended: $(tail -n 3 "$kept/dockerd.log")"
    sleep 0.5
done
docker info >/dev/null 2>&1 || cannot "dockerd does not answer: $(tail -n 3 "$kept/dockerd.log")"

docker image inspect avs-base >/dev/null 2>&1 || docker import \
    --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    --change "ENV PIP_CERT=$certificates SSL_CERT_FILE=$certificates REQUESTS_CA_BUNDLE=$certificates" \
    - avs-base <"$kept/base.tar" >/dev/null
export AVS_BUILD_FLAGS="--network host --build-arg BASE_IMAGE=avs-base --build-context wheels=$wheels"
"$@"
