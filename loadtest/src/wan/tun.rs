//! TUN devices (Linux `Documentation/networking/tuntap.rst`): IP packets of a host as reads and writes of a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::libc;

/// The device of the kernel's TUN driver.
pub const DEVICE: &str = "/dev/net/tun";
/// The longest name of a network interface (`IFNAMSIZ`, with its ending zero).
const INTERFACE_NAME_BYTES: usize = 16;

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; INTERFACE_NAME_BYTES],
    flags: libc::c_short,
    rest: [u8; 22],
}

mod sys {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(
        /// Makes the file the device that the request names.
        tun_set_interface,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        super::InterfaceRequest
    );
}

/// A TUN device. It goes away when this value does.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes a device of this name in the network namespace of the calling thread.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let mut request = InterfaceRequest { name: [0; INTERFACE_NAME_BYTES], flags, rest: [0; 22] };
        // The last byte stays zero: the kernel reads a C string.
        if name.len() >= INTERFACE_NAME_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is too long for an interface")));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        set_interface(&file, &request)?;
        Ok(Self { file })
    }

    /// Reads one packet, if one waits.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives one packet to the host.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[expect(unsafe_code, reason = "there is no safe wrapper for TUNSETIFF")]
fn set_interface(file: &File, request: &InterfaceRequest) -> io::Result<()> {
    let mut request = InterfaceRequest { name: request.name, flags: request.flags, rest: request.rest };
    // SAFETY: the file is open for the whole call. The pointer is to 40 initialised bytes laid out as `struct ifreq`,
    // which is all the kernel reads, and all it writes when it stores the final name; the value is ours alone.
    unsafe { sys::tun_set_interface(file.as_raw_fd(), &raw mut request) }?;
    Ok(())
}
