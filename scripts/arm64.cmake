# SPDX-License-Identifier: Apache-2.0
# Toolchain of the arm64 cross build: Debian's cross gcc, the libraries that scripts/arm64-libraries unpacks, qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

get_filename_component(SGM_ARM64 ${CMAKE_CURRENT_LIST_DIR}/../build/arm64-libraries ABSOLUTE)
set(SGM_ARM64_LIB ${SGM_ARM64}/usr/lib/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} ${SGM_ARM64_LIB}/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${SGM_ARM64})
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${SGM_ARM64_LIB}")
set(CMAKE_FIND_ROOT_PATH ${SGM_ARM64} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_CROSSCOMPILING_EMULATOR
  "qemu-aarch64;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=${SGM_ARM64_LIB}:/usr/aarch64-linux-gnu/lib")
