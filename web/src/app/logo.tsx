/** Two shores and the strip of land that joins them. */
export function Logo({ className }: { className?: string }) {
  return (
    <svg aria-hidden viewBox="0 0 32 32" className={className}>
      <rect width="32" height="32" rx="9" className="fill-primary" />
      <path
        d="M6 16a5 5 0 0 1 5-5c4 0 6 10 10 10a5 5 0 0 0 0-10c-4 0-6 10-10 10a5 5 0 0 1-5-5Z"
        className="fill-none stroke-primary-foreground"
        strokeWidth="3"
        strokeLinejoin="round"
      />
    </svg>
  );
}
