# Reference values for predict's ARIMA and AR, from R's stats and forecast
# packages (4.2.2, 8.20). Writes predict/testdata/arima.json:
#   Rscript tests/reference/arima.R > predict/testdata/arima.json
suppressMessages(library(forecast))
num <- function(v) paste0("[", paste(ifelse(is.na(v), "null", formatC(v, digits = 15, format = "g")), collapse = ","), "]")
set.seed(7)
sim <- round(as.numeric(arima.sim(list(order = c(1, 1, 1), ar = 0.6, ma = -0.3), n = 199)) + 20, 4)
gaps <- sim; gaps[c(5, 40, 41, 42, 120, 199)] <- NA
white <- round(rnorm(150, 10, 2), 4)
series <- list(nile = as.numeric(Nile), huron = as.numeric(LakeHuron), lh = as.numeric(lh),
               www = as.numeric(WWWusage), sim = sim, gaps = gaps, white = white)
cases <- list(
  list("nile", c(1, 0, 1), TRUE), list("huron", c(2, 0, 0), TRUE), list("lh", c(3, 0, 0), TRUE),
  list("lh", c(1, 0, 0), FALSE), list("www", c(1, 1, 1), FALSE), list("www", c(3, 1, 0), FALSE),
  list("sim", c(1, 1, 1), FALSE), list("sim", c(0, 1, 2), TRUE), list("sim", c(2, 1, 2), FALSE),
  list("gaps", c(1, 1, 1), FALSE), list("gaps", c(1, 0, 1), TRUE), list("sim", c(0, 2, 1), FALSE),
  list("white", c(0, 0, 0), TRUE))
out <- sapply(cases, function(k) {
  x <- ts(series[[k[[1]]]]); o <- k[[2]]
  f <- Arima(x, order = o, include.constant = k[[3]], method = "ML", optim.control = list(reltol = 1e-14, maxit = 2000))
  co <- coef(f)
  const <- if (k[[3]]) tail(co, 1) else 0
  p <- forecast(f, h = 12, level = 68.26894921370859)
  sd <- as.numeric(p$upper - p$mean)
  sprintf('{"series":"%s","p":%d,"d":%d,"q":%d,"constant":%s,"phi":%s,"theta":%s,"mean":%.15g,"sigma2":%.15g,"loglik":%.15g,"aicc":%.15g,"forecast":%s,"sd":%s}',
    k[[1]], o[1], o[2], o[3], tolower(k[[3]]), num(co[grep("^ar", names(co))]), num(co[grep("^ma", names(co))]),
    const, f$sigma2, f$loglik, f$aicc, num(as.numeric(p$mean)), num(sd))
})
auto <- sapply(names(series), function(n) {
  x <- ts(series[[n]])
  f <- auto.arima(x, seasonal = FALSE, max.p = 3, max.q = 3, approximation = FALSE, method = "ML")
  o <- arimaorder(f)
  c <- any(names(coef(f)) %in% c("intercept", "drift"))
  y <- x[!is.na(x)]
  k <- urca::ur.kpss(y, type = "mu", use.lag = trunc(3 * sqrt(length(y)) / 13))@teststat
  a <- ar(y, aic = TRUE, order.max = 16, method = "yw")
  sprintf('{"series":"%s","p":%d,"d":%d,"q":%d,"constant":%s,"aicc":%.15g,"kpss":%.15g,"ar":%s,"ar_variance":%.15g}',
    n, o[1], o[2], o[3], tolower(c), f$aicc, k, num(a$ar), a$var.pred)
})
data <- sapply(names(series), function(n) sprintf('"%s":%s', n, num(series[[n]])))
cat('{"series":{', paste(data, collapse = ",\n"), '},\n"fits":[', paste(out, collapse = ",\n"), '],\n"auto":[', paste(auto, collapse = ",\n"), ']}\n', sep = "")
