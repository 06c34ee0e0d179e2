# What melt's environment has of llama-cpp-python. The Makefile has its CMake project include this file:
#   CMAKE_ARGS=-DCMAKE_PROJECT_llama_cpp_INCLUDE=FILE pip install llama-cpp-python
# The libraries that melt loads are built as ever: the same sources, flags and instruction sets.
set(LLAVA_BUILD OFF)          # libmtmd, for pictures and sound
set(LLAMA_BUILD_COMMON OFF)   # what llama.cpp's own programs share; a plain variable outranks the forced cache entry
# Headers that many files have are read once.
cmake_language(DEFER CALL target_precompile_headers llama PRIVATE <algorithm> <sstream>
  ${CMAKE_SOURCE_DIR}/vendor/llama.cpp/src/llama-context.h ${CMAKE_SOURCE_DIR}/vendor/llama.cpp/src/models/models.h)
