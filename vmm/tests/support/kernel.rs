//! Kernels of a few bytes: real files, in the formats that Linux's have.

use std::io::Write;

/// Where the small kernels begin.
pub const BASE: u64 = 0x10_0000;

/// A kernel for the 64-bit entry: writes its command line, its initramfs and the signature of
/// ACPI's root pointer to the serial port, with bars between them, and resets.
pub const LONG_MODE: [u8; 0x45] = [
    0x48, 0x89, 0xf3, //                         mov rbx, rsi
    0xba, 0xf8, 0x03, 0, 0, //                   mov edx, 0x3f8
    0x8b, 0xb3, 0x28, 0x02, 0, 0,    //             mov esi, [rbx+0x228]   cmd_line_ptr
    0xac, //                                  0e: lodsb
    0x84, 0xc0, //                               test al, al
    0x74, 0x03, //                               jz 16
    0xee, //                                     out dx, al
    0xeb, 0xf8, //                               jmp 0e
    0xb0, b'|', 0xee, //                      16: mov al, '|'; out dx, al
    0x8b, 0xb3, 0x18, 0x02, 0, 0, //             mov esi, [rbx+0x218]   ramdisk_image
    0x8b, 0x8b, 0x1c, 0x02, 0, 0, //             mov ecx, [rbx+0x21c]   ramdisk_size
    0x67, 0xe3, 0x06, //                         jecxz 2e
    0xac, 0xee, //                            28: lodsb; out dx, al
    0xff, 0xc9, //                               dec ecx
    0x75, 0xfa, //                               jnz 28
    0xb0, b'|', 0xee, //                      2e: mov al, '|'; out dx, al
    0x48, 0x8b, 0x73, 0x70, //                   mov rsi, [rbx+0x70]    acpi_rsdp_addr
    0xb9, 0x08, 0, 0, 0, //                      mov ecx, 8
    0xac, 0xee, //                            3a: lodsb; out dx, al
    0xff, 0xc9, //                               dec ecx
    0x75, 0xfa, //                               jnz 3a
    0xb0, 0xfe, 0xe6, 0x64, 0xf4, //             mov al, 0xfe; out 0x64, al; hlt
];

/// The same for the PVH entry.
pub const PROTECTED_MODE: [u8; 0x3b] = [
    0xba, 0xf8, 0x03, 0, 0, //                   mov edx, 0x3f8
    0x8b, 0x73, 0x18, //                         mov esi, [ebx+0x18]    cmdline_paddr
    0xac, //                                  08: lodsb
    0x84, 0xc0, //                               test al, al
    0x74, 0x03, //                               jz 10
    0xee, //                                     out dx, al
    0xeb, 0xf8, //                               jmp 08
    0xb0, b'|', 0xee, //                      10: mov al, '|'; out dx, al
    0x83, 0x7b, 0x0c, 0, //                      cmp dword [ebx+0xc], 0 nr_modules
    0x74, 0x0d, //                               jz 26
    0x8b, 0x7b, 0x10, //                         mov edi, [ebx+0x10]    modlist_paddr
    0x8b, 0x37, //                               mov esi, [edi]
    0x8b, 0x4f, 0x08, //                         mov ecx, [edi+8]
    0xac, 0xee, //                            21: lodsb; out dx, al
    0x49, //                                     dec ecx
    0x75, 0xfb, //                               jnz 21
    0xb0, b'|', 0xee, //                      26: mov al, '|'; out dx, al
    0x8b, 0x73, 0x20, //                         mov esi, [ebx+0x20]    rsdp_paddr
    0xb9, 0x08, 0, 0, 0, //                      mov ecx, 8
    0xac, 0xee, //                            31: lodsb; out dx, al
    0x49, //                                     dec ecx
    0x75, 0xfb, //                               jnz 31
    0xb0, 0xfe, 0xe6, 0x64, 0xf4, //             mov al, 0xfe; out 0x64, al; hlt
];

/// Where the code for the PVH entry is in [`vmlinux`].
const PVH: u64 = BASE + 0x800;
const PAGE: usize = 4096;

/// An ELF kernel: both small kernels on one page, and behind it `rest`; `memory_bytes` in all.
pub fn vmlinux(rest: &[u8], memory_bytes: u64) -> Vec<u8> {
    let (loaded, note) = (PAGE, 0x200);
    let mut file = vec![0; loaded];
    let header: [&[u8]; 4] = [
        b"\x7fELF\x02\x01\x01",
        &[0; 9],
        &[2, 0, 62, 0, 1, 0, 0, 0], // executable, x86-64, version
        &BASE.to_le_bytes(),
    ];
    put(&mut file, 0, &header.concat());
    put(&mut file, 32, &64_u64.to_le_bytes()); // program headers
    put(&mut file, 52, &[64, 0, 56, 0, 2, 0]);
    let file_bytes = (PAGE + rest.len()) as u64;
    program_header(&mut file, 64, 1, loaded, BASE, file_bytes, memory_bytes);
    program_header(&mut file, 120, 4, note, 0, 20, 20);
    let text: [&[u8]; 3] = [
        &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0],
        b"Xen\0",
        &(PVH as u32).to_le_bytes(),
    ];
    put(&mut file, note, &text.concat());
    file.resize(loaded + PAGE, 0);
    put(&mut file, loaded, &LONG_MODE);
    put(&mut file, loaded + 0x800, &PROTECTED_MODE);
    file.extend_from_slice(rest);
    file
}

fn program_header(
    file: &mut [u8],
    at: usize,
    kind: u32,
    offset: usize,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
) {
    put(file, at, &kind.to_le_bytes());
    put(file, at + 4, &7_u32.to_le_bytes());
    let words = [offset as u64, address, address, file_bytes, memory_bytes, 1];
    for (index, word) in words.into_iter().enumerate() {
        put(file, at + 8 + 8 * index, &word.to_le_bytes());
    }
}

/// Overwrites bytes.
pub fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// How a bzImage's kernel is compressed.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    None,
    Gzip,
    Xz,
    Lzma,
    Lz4,
    Zstd,
}

pub const FORMATS: [Format; 6] = [
    Format::None,
    Format::Gzip,
    Format::Xz,
    Format::Lzma,
    Format::Lz4,
    Format::Zstd,
];

impl Format {
    /// The payload as Linux's build makes it: compressed, and then the length of what comes out.
    pub fn payload(self, vmlinux: &[u8]) -> Vec<u8> {
        let length = (vmlinux.len() as u32).to_le_bytes();
        let mut payload = match self {
            Format::None => return vmlinux.to_vec(),
            Format::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(vmlinux).expect("a vector takes it");
                return encoder.finish().expect("it ends");
            }
            Format::Xz => {
                let mut options = lzma_rust2::XzOptions::with_preset(0);
                // As Linux's build does for x86.
                options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
                let mut encoder =
                    lzma_rust2::XzWriter::new(Vec::new(), options).expect("an encoder");
                encoder.write_all(vmlinux).expect("a vector takes it");
                encoder.finish().expect("it ends")
            }
            Format::Lzma => {
                let options = lzma_rust2::LzmaOptions::with_preset(0);
                let mut encoder =
                    lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None)
                        .expect("an encoder");
                encoder.write_all(vmlinux).expect("a vector takes it");
                encoder.finish().expect("it ends")
            }
            // The legacy frame, which Linux uses: a magic number, and blocks with their lengths.
            Format::Lz4 => {
                let mut frame = vec![0x02, 0x21, 0x4c, 0x18];
                for block in vmlinux.chunks(8 << 20) {
                    let block = lz4_flex::block::compress(block);
                    frame.extend((block.len() as u32).to_le_bytes());
                    frame.extend(block);
                }
                frame
            }
            Format::Zstd => ruzstd::encoding::compress_to_vec(
                vmlinux,
                ruzstd::encoding::CompressionLevel::Fastest,
            ),
        };
        payload.extend(length);
        payload
    }
}

/// A bzImage with this payload behind a setup of two sectors and a decompressor of 16 bytes.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let setup_sectors = 2;
    let mut file = vec![0; (setup_sectors + 1) * 512 + 16];
    file[0x1f1] = setup_sectors as u8;
    put(&mut file, 0x1fe, &[0x55, 0xaa]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &[0x0f, 0x02]); // version 2.15
    put(&mut file, 0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(&mut file, 0x236, &[1, 0]); // 64 bits
    put(&mut file, 0x238, &255_u32.to_le_bytes()); // cmdline_size
    put(&mut file, 0x248, &16_u32.to_le_bytes()); // payload_offset
    put(&mut file, 0x24c, &(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(payload);
    file
}
