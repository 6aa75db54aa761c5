#!/bin/sh
# Fits whatever user and workspace the container was given, then becomes its command.
set -eu

[ -w "${HOME:-/}" ] || export HOME=/tmp

if [ -z "$(ls -A)" ] && [ -w . ]; then
    cp -R /opt/avs/. . # an empty workspace gets the kit's own copy
elif [ -z "$(ls -A)" ]; then
    echo "avs: nothing can be written to $PWD: mount a folder (-v \"\$PWD\":/workspace) or add --tmpfs /workspace" >&2
    exit 1
elif [ ! -w . ]; then
    owner=$(stat -c %u:%g .)
    echo "avs: user $(id -u):$(id -g) cannot write to $PWD, which belongs to $owner: add --user $owner" >&2
fi

if [ -w .dvc ] && [ ! -e .git ] && [ ! -e .dvc/config.local ]; then
    printf '[core]\n    no_scm = true\n' > .dvc/config.local # a copy without Git's history
fi

exec "$@"
