#!/bin/sh
# From a clone to the app, on a Mac:
#   MELT_TEAM=ABCDE12345 MELT_BUNDLE_PREFIX=org.example ./build.sh          build/MeltRunner.ipa, signed
#   MELT_FREE_TEAM=1 MELT_TEAM=... MELT_BUNDLE_PREFIX=... ./build.sh        without what only a paid team may have
#   ./build.sh compile                                                      that it compiles; nothing is signed
set -eu
cd "$(dirname "$0")"
fail() { echo "build.sh: $1" >&2; exit 1; }
missing=
[ "$(uname)" = Darwin ] || fail "an app for an iPhone is built on a Mac"
for tool in xcodebuild:"Xcode 15 or later" xcodegen:"brew install xcodegen" cmake:"brew install cmake" python3:Python; do
  command -v "${tool%%:*}" >/dev/null || missing="$missing ${tool%%:*} (${tool#*:})"
done
[ -z "$missing" ] || fail "needed:$missing"
python3 -c 'import melt' 2>/dev/null || fail "this Python has no melt: pip install --editable ../.."
if [ "${1:-}" = compile ]; then
  signing="CODE_SIGNING_ALLOWED=NO"
  : "${MELT_TEAM:=none}" "${MELT_BUNDLE_PREFIX:=org.example}"
else
  signing="-allowProvisioningUpdates"
  [ -n "${MELT_TEAM:-}" ] || fail "MELT_TEAM is not set: the ten characters in Xcode > Settings > Accounts"
  [ -n "${MELT_BUNDLE_PREFIX:-}" ] || fail "MELT_BUNDLE_PREFIX is not set: a name of yours, as org.example"
fi
export MELT_TEAM MELT_BUNDLE_PREFIX
# Made anew where melt's pinned llama.cpp is another than was built.
pin=$(python3 -c 'from melt.toolchain.source import SHA256; print(SHA256)')
[ "$(cat build/llama.pin 2>/dev/null)" = "$pin" ] || ./build-llama.sh
echo "$pin" > build/llama.pin
./job-schema.sh > build/include/job_schema.hpp
xcodegen generate
# A free team may not ask for more memory.
entitled=${MELT_FREE_TEAM:+CODE_SIGN_ENTITLEMENTS=}
# shellcheck disable=SC2086 - no word where there is none
xcodebuild -quiet -project MeltRunner.xcodeproj -scheme MeltRunner -configuration Release \
  -destination generic/platform=iOS -derivedDataPath build/app "$signing" $entitled
[ "${1:-}" = compile ] && exit 0
rm -rf build/Payload build/MeltRunner.ipa
mkdir -p build/Payload
cp -R build/app/Build/Products/Release-iphoneos/MeltRunner.app build/Payload/
(cd build && zip -qr MeltRunner.ipa Payload)
echo "$PWD/build/MeltRunner.ipa"
