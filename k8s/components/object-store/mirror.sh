#!/bin/sh
# Keeps a folder as the bucket has it: run by the sidecar of the model servers, `sh mirror.sh BUCKET_PATH FOLDER SECONDS`.
#
# A version counts once its saved_model.pb is there, which training writes last. It is copied beside the repository and
# appears in it by one rename, so that a server never sees half of one.
set -eu
source=$1
models=$2
poll_s=$3
trap 'exit 0' TERM

while :; do
  if rclone lsf --recursive --files-only --include '/*/*/saved_model.pb' "$source" > "$models/.found"; then
    while read -r file; do
      version=${file%/saved_model.pb}
      if [ ! -d "$models/$version" ]; then
        mkdir -p "$models/${version%/*}"
        rclone copy "$source/$version" "$models/.incoming/$version" &&
          mv "$models/.incoming/$version" "$models/$version" &&
          echo "copied $version"
      fi
    done < "$models/.found"
    for folder in "$models"/*/*/; do
      version=${folder#"$models"/}
      if [ -d "$folder" ] && ! grep -qxF "${version}saved_model.pb" "$models/.found"; then
        mv "$folder" "$models/.outgoing" && rm -r "$models/.outgoing" && echo "removed ${version%/}"
      fi
    done
  fi
  sleep "$poll_s" &
  wait $!
done
