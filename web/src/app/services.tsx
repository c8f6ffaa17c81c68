import { createContext, useContext } from "react";

import { Nearest } from "@/features/nearest/nearest";
import { browserEnvironment, type Environment } from "@/sdk";

/** What pages need from outside, made once and given to all. */
export interface Services {
  environment: Environment;
  nearest: Nearest;
  /** Whether this is a developer's machine. */
  development: boolean;
  /** Whether to hand the room to the console and to tests, as `window.__isthmus`. */
  debug: boolean;
}

export function browserServices(location: Location): Services {
  const environment = browserEnvironment();
  const query = new URLSearchParams(location.search);
  const asIf = query.get("as-if") ?? undefined;
  const development = location.hostname === "localhost" || location.hostname === "127.0.0.1";
  return {
    environment,
    nearest: new Nearest(environment, location.origin, asIf),
    development,
    debug: import.meta.env.DEV || query.has("debug"),
  };
}

const ServicesContext = createContext<Services | undefined>(undefined);

export const ServicesProvider = ServicesContext.Provider;

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === undefined) throw new Error("useServices outside of ServicesProvider");
  return services;
}
