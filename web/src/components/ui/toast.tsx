import { Toast as ToastPrimitive } from "@base-ui/react/toast";

const toasts = ToastPrimitive.createToastManager();

/** Says something in passing, from anywhere. */
export function toast(title: string, description?: string): void {
  toasts.add({ title, description, timeout: 4000 });
}

export function Toaster() {
  return (
    <ToastPrimitive.Provider toastManager={toasts} limit={2}>
      <ToastPrimitive.Portal>
        <ToastPrimitive.Viewport className="fixed inset-x-0 top-[max(4rem,env(safe-area-inset-top))] z-60 mx-auto flex w-fit max-w-[calc(100vw-2rem)] flex-col items-center gap-2 outline-none">
          <ToastList />
        </ToastPrimitive.Viewport>
      </ToastPrimitive.Portal>
    </ToastPrimitive.Provider>
  );
}

function ToastList() {
  return ToastPrimitive.useToastManager().toasts.map((item) => (
    <ToastPrimitive.Root
      key={item.id}
      toast={item}
      swipeDirection="up"
      className="rounded-full bg-zinc-950 px-4 py-2.5 text-sm text-white shadow-lg ring-1 ring-white/10 transition-[opacity,translate] duration-150 data-ending-style:opacity-0 data-limited:hidden data-starting-style:-translate-y-2 data-starting-style:opacity-0"
    >
      <ToastPrimitive.Title className="font-medium" />
      <ToastPrimitive.Description className="text-white/75" />
    </ToastPrimitive.Root>
  ));
}
