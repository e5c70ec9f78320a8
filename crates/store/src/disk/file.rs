//! A directory of the machine's file system, through std and, for what std lacks, rustix.
//!
//! - A clone shares blocks where the file system can (FICLONE); elsewhere only ranges that may hold data are
//!   copied, so a hole stays one.
//! - The lock ends with the process, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Cloned, Disk, DiskFile, FileSystem, LOCK_NAME, Lock, Open, RelPath, Space};

/// A directory of the machine's file system.
pub struct FileDisk {
    root: PathBuf,
}

/// A process that waits for the lock looks this often.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Data is copied in pieces of 1 MiB, large enough that the system calls cost nothing beside the disk.
const COPY_BYTES: usize = 1 << 20;

/// `pwritev` takes no more parts at once (Linux's `UIO_MAXIOV`).
const PARTS_MAX: usize = 1024;

impl FileDisk {
    /// The directory at `root`, whether it exists yet or not.
    pub fn new(root: impl Into<PathBuf>) -> FileDisk {
        FileDisk { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &RelPath) -> PathBuf {
        if path.as_str().is_empty() { self.root.clone() } else { self.root.join(path.as_str()) }
    }

    /// Asks the file system that holds the tree, or will hold it once it is made.
    fn statfs(&self) -> io::Result<rustix::fs::StatFs> {
        for ancestor in self.root.ancestors() {
            let path = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
            match rustix::fs::statfs(path) {
                Err(Errno::NOENT) => {}
                other => return Ok(other?),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Disk for FileDisk {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.read(true).write(true).create(true).truncate(true).mode(0o600),
        };
        Ok(Arc::new(RealFile(options.open(self.path(path))?)))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        std::fs::read_dir(self.path(dir))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        let path = self.path(dir);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
            // The state directory's own name stands in a directory that is not in this tree.
            Ok(()) if dir.as_str().is_empty() => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
            }
            Ok(()) => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        let from = File::open(self.path(from))?;
        let to =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(to))?;
        match rustix::fs::ioctl_ficlone(&to, &from) {
            Ok(()) => Ok(Cloned::Shared),
            Err(
                Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM,
            ) => Ok(Cloned::Copied { bytes: copy_data(&RealFile(from), &RealFile(to))? }),
            Err(error) => Err(error.into()),
        }
    }

    fn space(&self) -> io::Result<Space> {
        let stat = self.statfs()?;
        let block_bytes = u64::try_from(stat.f_bsize).unwrap_or(0);
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(block_bytes),
            total_bytes: stat.f_blocks.saturating_mul(block_bytes),
        })
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        // The magic numbers have 32 bits; the field that carries them is wider, and signed.
        Ok(file_system_of(self.statfs()?.f_type as u32))
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        let path = self.root.join(LOCK_NAME);
        let writable =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match writable {
            // Whoever may only look at a tree locks it all the same.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                File::open(&path).map_err(|_| error)?
            }
            result => result?,
        };
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, holder(&file)));
            }
            std::thread::sleep(left.min(LOCK_POLL));
        }
        // The number is for messages only: a disk that does not take it does not keep anybody from reading.
        let _ =
            file.set_len(0).and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
        Ok(Lock::new(file))
    }
}

/// Who holds the lock of `file`, as far as it says.
fn holder(file: &File) -> String {
    let mut digits = [0; 20];
    let length = FileExt::read_at(file, &mut digits, 0).unwrap_or(0);
    let number = std::str::from_utf8(&digits[..length]).ok().and_then(|text| text.parse::<u32>().ok());
    number.map_or_else(|| "another process".to_string(), |number| format!("process {number}"))
}

/// Names a file system by the magic number that `statfs` gives (Linux's `magic.h`, and each one's own source
/// where that does not list it).
fn file_system_of(magic: u32) -> FileSystem {
    match magic {
        0x0000_6969 => FileSystem::Network("NFS"),
        0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 => FileSystem::Network("SMB/CIFS"),
        0x0102_1997 => FileSystem::Network("9p"),
        0x00c3_6400 => FileSystem::Network("Ceph"),
        0x0bd0_0bd0 => FileSystem::Network("Lustre"),
        0x4750_4653 => FileSystem::Network("GPFS"),
        0x0116_1970 => FileSystem::Network("GFS2"),
        0x7461_636f => FileSystem::Network("OCFS2"),
        0x5346_414f | 0x6b41_4653 => FileSystem::Network("AFS"),
        0x7375_7245 => FileSystem::Network("Coda"),
        0x786f_4256 => FileSystem::Network("vboxsf"),
        0xbacb_acbc => FileSystem::Network("vmhgfs"),
        0x6573_5546 => FileSystem::Fuse,
        0x0102_1994 => FileSystem::Memory("tmpfs"),
        0x8584_58f6 => FileSystem::Memory("ramfs"),
        // ext2, ext3 and ext4 have one number; the first two are served by ext4's code.
        0x0000_ef53 => FileSystem::Local("ext4"),
        0x5846_5342 => FileSystem::Local("XFS"),
        0x9123_683e => FileSystem::Local("btrfs"),
        0x794c_7630 => FileSystem::Local("overlay"),
        0x2fc1_2fc1 => FileSystem::Local("ZFS"),
        0xf2f5_2010 => FileSystem::Local("F2FS"),
        0xca45_1a4e => FileSystem::Local("bcachefs"),
        0x7366_746e => FileSystem::Local("NTFS"),
        0x2011_bab0 => FileSystem::Local("exFAT"),
        0x0000_4d44 => FileSystem::Local("FAT"),
        _ => FileSystem::Local("unknown"),
    }
}

/// Copies the length and every range that may hold data into an empty file; returns the bytes copied.
fn copy_data(from: &RealFile, to: &RealFile) -> io::Result<u64> {
    let length = from.len()?;
    to.set_len(length)?;
    let mut piece = vec![0; COPY_BYTES];
    let (mut at, mut copied) = (0, 0);
    while let Some(range) = from.data_ranges(at)? {
        at = range.start;
        while at < range.end {
            let bytes = piece.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            from.0.read_exact_at(&mut piece[..bytes], at)?;
            to.0.write_all_at(&piece[..bytes], at)?;
            at += bytes as u64;
            copied += bytes as u64;
        }
    }
    Ok(copied)
}

/// A file of the machine's file system.
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }

    fn write_at(&self, mut at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts.to_vec();
        let mut left = parts.as_mut_slice();
        // Gives up empty parts too, which a write would otherwise report as no progress.
        io::IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match rustix::io::pwritev(&self.0, &left[..left.len().min(PARTS_MAX)], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    io::IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        // `st_blocks` counts 512 bytes whatever the file system's own blocks are.
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let start = match rustix::fs::seek(&self.0, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::seek(&self.0, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some(start..end)),
            // The file was cut off in between.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tests::TemporaryDirectory;

    fn path(path: &str) -> RelPath {
        RelPath::new(path)
    }

    fn write(file: &dyn DiskFile, at: u64, bytes: &[u8]) {
        file.write_at(at, &[io::IoSlice::new(bytes)]).unwrap();
    }

    fn read(file: &dyn DiskFile, at: u64, bytes: usize) -> Vec<u8> {
        let mut buf = vec![1; bytes];
        file.read_at(at, &mut buf).unwrap();
        buf
    }

    #[test]
    fn parts_are_written_one_after_the_other_however_many_they_are() {
        let directory = TemporaryDirectory::new("disk-parts");
        let disk = directory.disk("");
        let file = disk.open(&path("f"), Open::Create).unwrap();
        let bytes: Vec<u8> = (0..5_000_u32).map(|index| index as u8).collect();
        let mut parts: Vec<_> = bytes.chunks(2).map(io::IoSlice::new).collect();
        parts.insert(0, io::IoSlice::new(&[]));
        parts.push(io::IoSlice::new(&[]));
        file.write_at(7, &parts).unwrap();
        assert_eq!(file.len().unwrap(), 5_007);
        assert_eq!(read(&*file, 0, 7), [0; 7]);
        assert_eq!(read(&*file, 7, 5_000), bytes);
        file.write_at(0, &[]).unwrap();
        file.write_at(0, &[io::IoSlice::new(&[])]).unwrap();
        assert_eq!(file.len().unwrap(), 5_007);
    }

    #[test]
    fn a_copy_of_a_sparse_file_is_sparse() {
        let directory = TemporaryDirectory::new("disk-sparse");
        let disk = directory.disk("");
        let file = disk.open(&path("f"), Open::Create).unwrap();
        let length = 2 << 40;
        file.set_len(length).unwrap();
        write(&*file, 1 << 30, &[3; 4096]);
        write(&*file, length - 4096, &[4; 4096]);
        file.sync_data().unwrap();
        let to = disk.open(&path("copied"), Open::Create).unwrap();
        let copied = copy_data(
            &RealFile(File::open(disk.path(&path("f"))).unwrap()),
            &RealFile(OpenOptions::new().write(true).open(disk.path(&path("copied"))).unwrap()),
        )
        .unwrap();
        assert!((8192..=1 << 20).contains(&copied), "{copied} bytes copied");
        let how = disk.clone_file(&path("f"), &path("cloned")).unwrap();
        assert!(how == Cloned::Shared || how == Cloned::Copied { bytes: copied }, "{how:?}");
        let cloned = disk.open(&path("cloned"), Open::Read).unwrap();
        for copy in [to, cloned] {
            assert_eq!(copy.len().unwrap(), length);
            assert!(copy.allocated_bytes().unwrap() < 1 << 20);
            assert_eq!(read(&*copy, 1 << 30, 4096), [3; 4096]);
            assert_eq!(read(&*copy, length - 4096, 4096), [4; 4096]);
            assert_eq!(read(&*copy, (1 << 30) - 4096, 4096), [0; 4096]);
            let first = copy.data_ranges(0).unwrap().unwrap();
            assert!(first.contains(&(1 << 30)) && first.end < length, "{first:?}");
            let second = copy.data_ranges(first.end).unwrap().unwrap();
            assert_eq!(second.end, length);
            assert_eq!(copy.data_ranges(length).unwrap(), None);
        }
        let error = disk.clone_file(&path("f"), &path("cloned")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = disk.clone_file(&path("none"), &path("other")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!disk.list(&RelPath::root()).unwrap().contains(&"other".to_string()));
    }

    #[test]
    fn what_is_missing_or_too_short_is_an_error() {
        let directory = TemporaryDirectory::new("disk-errors");
        let disk = directory.disk("");
        for how in [Open::Read, Open::Write] {
            let error = disk.open(&path("none"), how).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        let file = disk.open(&path("f"), Open::Create).unwrap();
        write(&*file, 0, &[1; 10]);
        let error = file.read_at(5, &mut [0; 6]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let reader = disk.open(&path("f"), Open::Read).unwrap();
        assert!(reader.write_at(0, &[io::IoSlice::new(&[1])]).is_err());
        assert!(reader.set_len(0).is_err());
        let writer = disk.open(&path("f"), Open::Write).unwrap();
        assert_eq!(writer.len().unwrap(), 10, "opening for writing empties nothing");
        writer.set_len(3).unwrap();
        assert_eq!(file.len().unwrap(), 3);
        assert_eq!(disk.open(&path("f"), Open::Create).unwrap().len().unwrap(), 0);
        assert!(disk.rename(&path("none"), &path("f")).is_err());
        assert!(disk.unlink(&path("none")).is_err());
        assert!(disk.sync_dir(&path("none")).is_err());
        assert!(disk.list(&path("none")).is_err());
        assert!(disk.make_dir(&path("f")).is_err(), "a file is in the way");
    }

    #[test]
    fn only_the_owner_may_look() {
        let directory = TemporaryDirectory::new("disk-modes");
        let disk = directory.disk("state");
        assert_eq!(disk.file_system().unwrap(), directory.disk("").file_system().unwrap());
        disk.make_dir(&RelPath::root()).unwrap();
        disk.make_dir(&path("mem")).unwrap();
        disk.make_dir(&path("mem")).unwrap();
        drop(disk.open(&path("mem/f"), Open::Create).unwrap());
        disk.clone_file(&path("mem/f"), &path("mem/g")).unwrap();
        let mode = |at: &str| std::fs::metadata(disk.path(&path(at))).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("mem"), mode("mem/f"), mode("mem/g")), (0o700, 0o700, 0o600, 0o600));
        disk.sync_dir(&path("mem")).unwrap();
    }

    #[test]
    fn file_systems_have_names_and_room() {
        assert_eq!(file_system_of(0x6969), FileSystem::Network("NFS"));
        assert_eq!(file_system_of(0x6573_5546), FileSystem::Fuse);
        assert_eq!(file_system_of(1), FileSystem::Local("unknown"));
        if Path::new("/dev/shm").exists() {
            assert_eq!(FileDisk::new("/dev/shm/x/y").file_system().unwrap(), FileSystem::Memory("tmpfs"));
        }
        let space = FileDisk::new("not-made-yet").space().unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0, "{space:?}");
    }
}
