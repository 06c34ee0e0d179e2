#!/bin/sh
# Makes build/llama.xcframework and build/include of llama.cpp's source, the very one that melt's other runners have.
# On a Mac with Xcode, cmake, and melt in the Python that is first on the PATH:
#   ./build-llama.sh
set -eu
cd "$(dirname "$0")"
llama=${LLAMA_CPP_DIR:-$(python3 -c 'from melt.toolchain.source import llama_source; print(llama_source())')}
rm -rf build/llama build/llama.xcframework build/include
cmake -S "$llama" -B build/llama -G Xcode \
  -DCMAKE_SYSTEM_NAME=iOS -DCMAKE_OSX_SYSROOT=iphoneos -DCMAKE_OSX_ARCHITECTURES=arm64 \
  -DCMAKE_OSX_DEPLOYMENT_TARGET=16.4 -DCMAKE_XCODE_ATTRIBUTE_CODE_SIGNING_ALLOWED=NO \
  -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_METAL=ON -DGGML_METAL_EMBED_LIBRARY=ON \
  -DGGML_BLAS_DEFAULT=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF \
  -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF \
  -DGIT_EXE=OFF -DLLAMA_BUILD_COMMIT=llama-cpp-python-0.3.36 -DLLAMA_BUILD_NUMBER=0
cmake --build build/llama --config Release --target llama -- -quiet
find build/llama -path '*Release-iphoneos*' -name 'lib*.a' -exec libtool -static -o build/llama/libllama-all.a {} +
mkdir -p build/include
cp "$llama"/include/*.h "$llama"/ggml/include/*.h build/include/
./job-schema.sh > build/include/job_schema.hpp
xcodebuild -create-xcframework -library build/llama/libllama-all.a -output build/llama.xcframework
