/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel types the programs read, with the fields they use and no other:
 * CO-RE moves each access to where the running kernel has the field.
 */
#ifndef MAPTRACE_KERNEL_H
#define MAPTRACE_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_F_USER_STACK = 256 };
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct qstr {
	const unsigned char *name;
};

struct list_head {
	struct list_head *next;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_blocksize;
	unsigned long s_flags;
	unsigned long s_magic;
};

struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
};

struct dentry {
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

/* fs/mount.h */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

/* 6.8 and later: what a file of a stacked file system maps, and whose it is. */
struct backing_file {
	struct path user_path;
};

struct mm_struct {
	atomic_t mm_users;
	int map_count;
	unsigned long total_vm;
	unsigned long stack_vm;
	unsigned long def_flags;
	unsigned long start_code;
	unsigned long end_code;
	unsigned long start_brk;
	unsigned long brk;
	unsigned long start_stack;
};

/* 6.14 and later: a seqcount, odd while the lock is held for writing. */
struct seqcount {
	unsigned int sequence;
};
struct mm_struct___seqcount {
	struct seqcount mm_lock_seq;
};

/* 6.4 to 6.13: one more at each end of a write section. */
struct mm_struct___int {
	int mm_lock_seq;
};

struct vm_special_mapping {
	const char *name;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	unsigned long vm_flags;
	unsigned long vm_pgoff;
	struct file *vm_file;
	const void *vm_ops;
	void *vm_private_data;
};

/* With CONFIG_ANON_VMA_NAME. */
struct anon_vma_name {
	char name[1]; /* NUL-terminated */
};
struct vm_area_struct___named {
	struct anon_vma_name *anon_name;
};

struct signal_struct {
	atomic_t live;
	int group_exit_code;
};

struct thread_info {
	unsigned long flags;
	__u32 status; /* x86 only */
	unsigned long syscall_work;
};

enum syscall_work_bit {
	SYSCALL_WORK_BIT_SYSCALL_TRACE = 2,
	SYSCALL_WORK_BIT_SYSCALL_EMU = 3,
	SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH = 5,
};

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

/* A return address that uprobes have put their own in the place of. */
struct return_instance {
	unsigned long stack; /* where it is, on x86 */
	unsigned long orig_ret_vaddr;
	struct return_instance *next;
};

struct uprobe_task {
	struct return_instance *return_instances; /* the innermost first */
};

struct task_struct {
	struct thread_info thread_info;
	struct mm_struct *mm;
	unsigned int flags;
	unsigned int personality;
	int pid;
	int tgid;
	int exit_code;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct files_struct *files;
	struct list_head ptraced;      /* those that it traces */
	struct list_head ptrace_entry; /* its place among those that its tracer traces */
	__u64 start_boottime;
	struct uprobe_task *utask;
	char comm[16];
	unsigned long sas_ss_sp; /* its alternate stack for signals */
	unsigned long sas_ss_size;
};

struct linux_binprm;
struct mem_cgroup;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15;
	unsigned long r14;
	unsigned long r13;
	unsigned long r12;
	unsigned long bp;
	unsigned long bx;
	unsigned long r11;
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "maptrace knows amd64 and arm64"
#endif

#pragma clang attribute pop

/* include/uapi/linux/bpf_perf_event.h; not relocated: the verifier knows it. */
struct bpf_perf_event_data {
#if defined(__TARGET_ARCH_x86)
	__u64 regs[16];
	__u64 ip;
	__u64 more[4];
#else
	__u64 regs[31];
	__u64 sp;
	__u64 ip;
	__u64 pstate;
#endif
	__u64 sample_period;
	__u64 addr;
};

/* kernel/bpf/task_iter.c, 6.7 and later. */
struct bpf_iter_task_vma {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

#endif
