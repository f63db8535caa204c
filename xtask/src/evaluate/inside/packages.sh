#!/bin/bash
# A day's package work: a local package is built, installed, upgraded; certificates are brought up to date; the lists and
# the state of packages are read. Arguments: seed, version, and `new` for a package the host has not had before.
set -eu
RANDOM=$1
version=$2
name=evaluate-tool
[ "${3:-}" = new ] && name=evaluate-extra
build() {
    folder=$(mktemp -d)
    mkdir -p "$folder/DEBIAN" "$folder/usr/bin" "$folder/usr/share/$name" "$folder/etc/$name"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: none <none@localhost>\nDescription: local\n' \
        "$name" "$1" > "$folder/DEBIAN/control"
    printf '#!/bin/sh\necho %s\n' "$1" > "$folder/usr/bin/$name"
    chmod 755 "$folder/usr/bin/$name" "$folder"
    for number in $(seq 4); do
        head -c $((RANDOM % 5000)) /dev/urandom | base64 > "$folder/usr/share/$name/data$number"
    done
    echo "level=$((RANDOM % 9))" > "$folder/etc/$name/$name.conf"
    dpkg-deb --root-owner-group -b "$folder" "/var/cache/$name.deb" > /dev/null
    rm -rf "$folder"
}
build "$version.1"
dpkg -i "/var/cache/$name.deb" > /dev/null
"$name" > /dev/null
build "$version.2"
apt-get -qq -o Dpkg::Use-Pty=0 install --reinstall --allow-downgrades -y "/var/cache/$name.deb" < /dev/null > /dev/null
"$name" > /dev/null
dpkg -l > /dev/null
apt-cache policy bash > /dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=local $RANDOM" -keyout /dev/null \
    -out /usr/local/share/ca-certificates/local.crt 2> /dev/null
update-ca-certificates > /dev/null 2>&1
