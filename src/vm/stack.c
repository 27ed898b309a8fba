/* stack.c - see stack.h. The switch is a few instructions: the old stack pointer waits in a register that callees
 * keep and that unwinders read as the frame pointer. */
#include "vm/stack.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

enum { GUARD = 4096 };

void vv_stack_switch(void (*work)(void *), void *argument, void *end);

#if defined __x86_64__
__asm__(".text\n"
        ".hidden vv_stack_switch\n"
        ".globl vv_stack_switch\n"
        ".type vv_stack_switch,@function\n"
        "vv_stack_switch:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset 6,-16\n"
        "mov %rsp,%rbp\n"
        ".cfi_def_cfa_register 6\n"
        "mov %rdx,%rsp\n"
        "mov %rdi,%rax\n"
        "mov %rsi,%rdi\n"
        "call *%rax\n"
        "mov %rbp,%rsp\n"
        "pop %rbp\n"
        ".cfi_def_cfa 7,8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size vv_stack_switch,.-vv_stack_switch\n");
#elif defined __aarch64__
__asm__(".text\n"
        ".hidden vv_stack_switch\n"
        ".globl vv_stack_switch\n"
        ".type vv_stack_switch,%function\n"
        "vv_stack_switch:\n"
        ".cfi_startproc\n"
        "stp x29, x30, [sp, #-16]!\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset 29,-16\n"
        ".cfi_offset 30,-8\n"
        "mov x29, sp\n"
        ".cfi_def_cfa_register 29\n"
        "mov x9, x0\n"
        "mov x0, x1\n"
        "mov sp, x2\n"
        "blr x9\n"
        "mov sp, x29\n"
        "ldp x29, x30, [sp], #16\n"
        ".cfi_def_cfa 31,0\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size vv_stack_switch,.-vv_stack_switch\n");
#else
#error "running guests needs a stack switch, written for x86-64 and aarch64 only: build with -Dvm=disabled"
#endif

void vv_stack_pool_init(struct vv_stack_pool *pool, size_t size)
{
    *pool = (struct vv_stack_pool){ .size = size + GUARD };
    (void)pthread_mutex_init(&pool->mutex, NULL);
}

void vv_stack_pool_release(struct vv_stack_pool *pool)
{
    for (size_t i = 0; i < pool->count; i++)
        (void)munmap(pool->spare[i], pool->size);
    (void)pthread_mutex_destroy(&pool->mutex);
}

varve_status vv_stack_take(struct vv_stack_pool *pool, void **stack)
{
    void *spare = NULL;

    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->count > 0)
        spare = pool->spare[--pool->count];
    (void)pthread_mutex_unlock(&pool->mutex);
    if (spare == NULL) {
        spare = mmap(NULL, pool->size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (spare == MAP_FAILED)
            return vv_fail_errno(errno, "a stack of %zu bytes for a guest", pool->size);
        if (mprotect(spare, GUARD, PROT_NONE) != 0) {
            const int number = errno;
            (void)munmap(spare, pool->size);
            return vv_fail_errno(number, "the guard of a guest's stack");
        }
    }
    *stack = spare;
    return VARVE_OK;
}

void vv_stack_give(struct vv_stack_pool *pool, void *stack)
{
    if (stack == NULL)
        return;
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->count < VV_STACK_POOL) {
        pool->spare[pool->count++] = stack;
        stack = NULL;
    }
    (void)pthread_mutex_unlock(&pool->mutex);
    if (stack != NULL)
        (void)munmap(stack, pool->size);
}

void vv_stack_run(const struct vv_stack_pool *pool, void *stack, void (*work)(void *), void *argument)
{
    vv_stack_switch(work, argument, (uint8_t *)stack + pool->size);
}
